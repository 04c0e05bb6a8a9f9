/* parquet.h: test hooks of the Parquet backend (the backend itself is tg_backend_parquet). */
#ifndef TG_BACKEND_PARQUET_PARQUET_H
#define TG_BACKEND_PARQUET_PARQUET_H

#include "core/base/fs.h"

/* Backends opened from now on use this file system (borrowed); NULL = the real one. */
void tg_backend_parquet_set_fs(const struct tg_fs *fs);

#endif
