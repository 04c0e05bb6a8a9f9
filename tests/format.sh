#!/usr/bin/env bash
# All C files are formatted by the pinned clang-format; --fix formats them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
tool=clang-format-14
command -v $tool >/dev/null || { echo "skipped: $tool is not installed" && exit 77; }

# Drawings in comments stay as drawn, however long their lines.
drawing='/* noun.h: a drawing.
 *
 *   [ head | one thing, another thing, a third thing ] ─► [ what becomes of them all ] ─► here it ends
 *   [ tail ]
 */'
[[ $($tool --assume-filename=core/noun.h <<<"$drawing") == "$drawing" ]] ||
  { echo ".clang-format: comments are reflowed, which breaks drawings (ReflowComments)" && exit 1; }

mode=(--dry-run -Werror)
[[ ${1-} == --fix ]] && mode=(-i)
find core tests -name '*.[ch]' -print0 | xargs -0 -P "$(nproc)" -n 8 $tool "${mode[@]}"
