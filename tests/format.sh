#!/usr/bin/env bash
# All C files are formatted by the pinned clang-format; --fix formats them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
tool=clang-format-14
command -v $tool >/dev/null || { echo "skipped: $tool is not installed" && exit 77; }
mode=(--dry-run -Werror)
[[ ${1-} == --fix ]] && mode=(-i)
find core tests -name '*.[ch]' -print0 | xargs -0 -P "$(nproc)" -n 8 $tool "${mode[@]}"
