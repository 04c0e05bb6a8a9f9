/* main.c: the program: finds the command and runs it. */
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "core/app/cmd.h"
#include "core/base/hash.h"

int main(int argc, char **argv)
{
    (void)signal(SIGPIPE, SIG_IGN); /* a closed pipe or socket is an error code, not a death */
    (void)signal(SIGXFSZ, SIG_IGN); /* nor is a file at its limit (ulimit -f) */
    tg_hash_seed(0);
    srandom((unsigned)(time(NULL) ^ ((long)getpid() << 16))); /* jitter: not the same everywhere */
    return tg_cmd_main(argc, argv);
}
