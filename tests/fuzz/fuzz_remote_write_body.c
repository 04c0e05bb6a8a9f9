/* Remote write, the other way: bodies as the input says (tests/support/body_script.h), as a snappy
 * block and plain. */
#include "tests/support/body_script.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tg_body_counts counts = {0};
    tg_body_script(data, size < 4096 ? size : 4096, &counts);
    return 0;
}
