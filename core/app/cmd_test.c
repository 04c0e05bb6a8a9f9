/* cmd_test.c: `tidegate test`: specs of rules. */
#include "core/app/cmd.h"
#include "core/lua/lua_test.h"

const struct tg_cmd tg_cmd_test = {
    .name = "test",
    .summary = "run the busted specs of rules inside the gateway's own VM",
    .synopsis = "[DIR|FILE]... [BUSTED OPTIONS]",
    .details =
        "Without an argument, the specs in scripts/spec run. require \"tidegate.testing\" loads a "
        "folder of rules\nand decides series with them; require \"tidegate.codec\" has the "
        "codecs.",
    .examples = "  tidegate test\n"
                "  tidegate test scripts\n"
                "  tidegate test my-rules/spec/routing_spec.lua\n",
    .run_raw = tg_lua_test_main,
};
