/* config_loader.h: what the files of the configuration loader share. Not for others.
 *
 * config.c loads a file and checks what it says, config_vm.c runs it, config_read.c turns its table
 * into options. Mistakes are collected, not returned: reading goes on, so that all are said at
 * once.
 *
 * Threading: one loader belongs to one thread.
 */
#ifndef TG_CONFIG_CONFIG_LOADER_H
#define TG_CONFIG_CONFIG_LOADER_H

#include <lua.h>

#include "core/config/config.h"
#include "core/config/config_spec.h"
#include "core/vm/heap.h"

enum { TG_CONFIG_MAX_BACKEND_NAME = 64 };

struct tg_config_loader {
    struct tg_arena *arena; /* borrows: everything that outlives the loader */
    struct tg_config_errors *errors;
    const char *path; /* as the user wrote it */
    const char *dir;  /* absolute, of the file */
    const char *text; /* of the file; NULL until it is read */
    struct tg_lua_heap heap;
    uint64_t n_instructions;
    bool is_nomem; /* the gateway's own memory, not the file's budget */
};

/* ---- config.c ---- */

/* A whole line, copied. */
void tg_config_add_text(struct tg_config_loader *l, const char *text);
/* "gateway.lua:3: " + message; `key` is the last part of the key's path, or NULL. */
void tg_config_add_error(struct tg_config_loader *l, const char *key, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* "; did you mean \"x\"?" or "; known here: a, b, c", written to `out`, which is returned. */
const char *tg_config_hint(char *out, size_t cap, const char *name, const char *const *known,
                           size_t n);
/* The values of all sections, TG_CONFIG_N_SECTIONS of them, complete and with absolute paths. */
void tg_config_fill(struct tg_config_loader *l, struct tg_options *options, struct tg_config *out);

/* ---- config_vm.c ---- */

/* Runs l->text in a sandbox and reads the table that it returns with tg_config_read_root.
 * TG_ERR_NOMEM, or TG_OK with the mistakes noted. */
TG_MUST_CHECK enum tg_code tg_config_run(struct tg_config_loader *l, size_t len,
                                         struct tg_config *out);

/* ---- config_read.c ---- */

/* The file's table is at the top of the stack. Calls tg_config_fill at the end. */
void tg_config_read_root(struct tg_config_loader *l, lua_State *lua, struct tg_config *out);

#endif
