#include <jansson.h>
#include <signal.h>

#include "core/app/cmd.h"
#include "core/base/hash.h"
#include "core/base/mem.h"

int main(int argc, char **argv)
{
    (void)signal(SIGPIPE, SIG_IGN); /* a closed pipe or socket is an error code, not a death */
    tg_hash_seed(0);
    json_set_alloc_funcs(tg_malloc, tg_free);
    return tg_cmd_main(argc, argv);
}
