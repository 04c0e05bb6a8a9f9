#include "core/backend/backend.h"

#include <string.h>

const struct tg_backend_ops *const tg_backend_types[] = {
    &tg_backend_parquet,
    &tg_backend_influxdb,
    &tg_backend_prometheus,
    NULL,
};

const struct tg_backend_ops *tg_backend_find(const char *type)
{
    for (size_t i = 0; tg_backend_types[i]; i++)
        if (strcmp(tg_backend_types[i]->type, type) == 0) return tg_backend_types[i];
    return NULL;
}
