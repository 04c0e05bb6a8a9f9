/* Runs a fuzz target over every file of the folders and files named on the command line: the corpus
 * as a plain test. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned replay(const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0) {
        perror(path);
        return 0;
    }
    if (S_ISDIR(st.st_mode)) {
        DIR *dir = opendir(path);
        unsigned n = 0;
        if (!dir) return 0;
        for (const struct dirent *e; (e = readdir(dir)) != NULL;) {
            if (e->d_name[0] == '.') continue;
            char sub[4096];
            (void)snprintf(sub, sizeof(sub), "%s/%s", path, e->d_name);
            n += replay(sub);
        }
        (void)closedir(dir);
        return n;
    }
    FILE *f = fopen(path, "rb");
    if (!f) {
        perror(path);
        return 0;
    }
    /* exactly the file's size, so that ASan sees a read past the end */
    uint8_t *data = malloc((size_t)st.st_size + !st.st_size);
    const size_t n = fread(data, 1, (size_t)st.st_size, f);
    (void)fclose(f);
    (void)LLVMFuzzerTestOneInput(data, n);
    free(data);
    return 1;
}

int main(int argc, char **argv)
{
    unsigned n = 0;
    for (int i = 1; i < argc; i++) n += replay(argv[i]);
    (void)printf("replayed %u inputs\n", n);
    return n ? 0 : 1; /* an empty corpus is a mistake, not a pass */
}
