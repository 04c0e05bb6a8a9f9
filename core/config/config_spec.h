/* config_spec.h: the keys of gateway.lua, section by section. Not for others than the loader.
 *
 * Threading: read-only.
 */
#ifndef TG_CONFIG_CONFIG_SPEC_H
#define TG_CONFIG_CONFIG_SPEC_H

#include "core/base/option.h"

struct tg_config_section {
    const char *name; /* "" = the file's own keys */
    const struct tg_option_spec *specs;
    const char *help;
};

enum {
    TG_CONFIG_ROOT,
    TG_CONFIG_LISTEN,
    TG_CONFIG_LOG,
    TG_CONFIG_RULES,
    TG_CONFIG_LIMITS,
    TG_CONFIG_DEAD_LETTERS,
    TG_CONFIG_BACKENDS, /* the keys that every backend has, whatever its type */
    TG_CONFIG_N_SECTIONS
};
extern const struct tg_config_section tg_config_sections[TG_CONFIG_N_SECTIONS];

#endif
