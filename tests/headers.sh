#!/usr/bin/env bash
# Every header compiles alone, so that files may include them in any order: tests/headers.sh BUILD_DIR
set -euo pipefail
build=$(cd "${1:-${TG_BUILD_DIR:?usage: tests/headers.sh BUILD_DIR}}" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/.."

flags=(-std=gnu11 -fsyntax-only -Wall -Wextra -Werror -Wno-unused-function -D_GNU_SOURCE
  -DTG_VERSION='"0"' -DTG_SOURCE_DIR='"."' -I. "-I$build")
# shellcheck disable=SC2207
flags+=($(pkg-config --cflags luajit libprotobuf-c cmocka 2>/dev/null || true))
export CC=${CC:-cc} FLAGS="${flags[*]@Q}"

one() {
  eval "set -- $FLAGS"
  # cmocka's own header wants these before it; a test's header may rely on that.
  { [[ $HEADER == tests/* ]] && printf '#include <%s>\n' setjmp.h stdarg.h stddef.h stdint.h
    printf '#include "%s"\n' "$HEADER"; } |
    "$CC" "$@" -x c - || { echo "$HEADER does not compile alone"; return 1; }
}
export -f one
n=$(find core tests -name '*.h' | wc -l)
((n)) || { echo "no headers found" && exit 1; }
find core tests -name '*.h' | sort | xargs -P "$(nproc)" -I{} env HEADER={} bash -c one
echo "$n headers compile alone"
