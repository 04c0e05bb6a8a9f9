/* config.h: gateway.lua -> struct tg_config.
 *
 * The file is Lua and returns one table. It runs in a throwaway VM of its own: no io, os, ffi,
 * debug, load*, require, pcall; a budget of instructions and memory; and one function of ours,
 * `env("NAME" [, default])`. Every section is described by one table of `struct tg_option_spec`,
 * which is the single source of its keys, defaults, limits and documentation.
 *
 * All mistakes of a file are reported, not only the first: unknown keys name the nearest known one,
 * wrong values say what is accepted, each with the full path of the key ("log.sync").
 *
 * Threading: one thread at a time.
 */
#ifndef TG_CONFIG_CONFIG_H
#define TG_CONFIG_CONFIG_H

#include <stdio.h>

#include "core/base/arena.h"
#include "core/base/err.h"
#include "core/pipe/config.h"

enum { TG_CONFIG_MAX_ERRORS = 50 };

struct tg_config_errors { /* zero before use; strings live in the arena given to load */
    const char *items[TG_CONFIG_MAX_ERRORS];
    unsigned n;
    unsigned n_more; /* beyond the room */
};

/* Loads `path`. Everything in *out lives in `arena`. TG_ERR_INVALID with at least one line in
 * *errors ("gateway.lua:3: log.sinc: unknown key; did you mean \"sync\"?") when anything is wrong;
 * TG_ERR_IO when the file cannot be read (also one line), TG_ERR_NOMEM (none). */
TG_MUST_CHECK enum tg_code tg_config_load(const char *path, struct tg_arena *arena,
                                          struct tg_config *out, struct tg_config_errors *errors);

/* The whole reference of keys as Markdown (docs/configuration.md holds it between markers). */
void tg_config_print_options(FILE *out);

#endif
