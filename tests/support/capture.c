#include "tests/support/capture.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static FILE *captured;
static int real_stderr;

void capture_begin(void)
{
    captured = tmpfile();
    if (!captured) abort();
    (void)fflush(stderr);
    real_stderr = dup(STDERR_FILENO);
    if (real_stderr < 0 || dup2(fileno(captured), STDERR_FILENO) < 0) abort();
}

void capture_end(char *out, size_t cap)
{
    (void)fflush(stderr);
    if (dup2(real_stderr, STDERR_FILENO) < 0) abort();
    (void)close(real_stderr);
    rewind(captured);
    out[fread(out, 1, cap - 1, captured)] = '\0';
    (void)fclose(captured);
    captured = NULL;
}

int capture_give_back(void **state)
{
    static char text[64 << 10];
    (void)state;
    if (!captured) return 0;
    capture_end(text, sizeof(text));
    (void)fputs(text, stderr);
    return 0;
}
