/* lua_test.h: `tidegate test [DIR]`: busted specs inside the gateway's own binary.
 *
 * The specs run in a VM with the whole standard library (they are the operator's own programs, not
 * rules) and with the modules of modules.h. busted itself is the system's (Debian: lua-busted).
 */
#ifndef TG_LUA_LUA_TEST_H
#define TG_LUA_LUA_TEST_H

/* argv[0] is the command's name; a DIR may be a folder of specs, a folder of rules with a spec
 * folder in it, or a file; default scripts/spec. Other arguments are busted's ("-o TAP"). Exit
 * code: 0 all passed, 1 some failed or nothing could be run. */
int tg_lua_test_main(int argc, char **argv);

#endif
