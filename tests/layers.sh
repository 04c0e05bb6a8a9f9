#!/usr/bin/env bash
# A folder is a layer: each file of core/X may include only what docs/architecture.md allows X. Fails naming every
# include that breaks the rule. Optional argument: the root of the tree (for testing this test).
set -euo pipefail
cd "${1:-$(dirname "${BASH_SOURCE[0]}")/..}"

declare -A may=(
  [base]=""
  [model]="base"
  [codec]="base"
  [protocol]="base model codec"
  [parquet]="base model codec"
  [log]="base model codec"
  [net]="base"
  [vm]="base"
  [rules]="base model vm"
  [receive]="base model codec protocol net"
  [backend]="base model codec protocol parquet net"
  [pipe]="base model codec protocol parquet log net vm rules receive backend"
  [admin]="base model codec protocol parquet log net vm rules receive backend pipe"
  [config]="base model codec protocol parquet log net vm rules receive backend pipe admin"
  [client]="base model codec protocol net"
  [lua]="base model codec protocol parquet log net vm rules receive backend pipe admin config client"
  [app]="base model codec protocol parquet log net vm rules receive backend pipe admin config client lua"
)
# Libraries that belong to some layers only, by their headers.
declare -A owners=(
  ["lua.h lauxlib.h lualib.h luajit.h"]="vm rules config lua"
  ["event2/"]="net app"
  ["curl/"]="net"
  ["http_parser.h"]="net"
  ["zstd.h snappy-c.h"]="codec"
  ["libdeflate.h"]="codec parquet"
  ["protobuf-c/"]="protocol"
)

n_files=0 n_bad=0
bad() { echo "$1" && n_bad=$((n_bad + 1)); }

for dir in core/*/; do
  layer=$(basename "$dir")
  [[ -v may[$layer] ]] || bad "core/$layer: no such layer"
done

while IFS= read -r file; do
  n_files=$((n_files + 1))
  layer=${file#core/} && layer=${layer%%/*}
  while IFS=: read -r line include; do
    if [[ $include == core/* ]]; then
      to=${include#core/} && to=${to%%/*}
      [[ " $layer ${may[$layer]-} " == *" $to "* ]] ||
        bad "$file:$line: includes $include, but core/$layer may include only: ${may[$layer]:-nothing} (and itself)"
    elif [[ $include == tests/* ]]; then
      bad "$file:$line: includes $include: the program does not depend on tests"
    else
      for headers in "${!owners[@]}"; do
        for header in $headers; do
          [[ $include == "$header"* ]] || continue
          [[ " ${owners[$headers]} " == *" $layer "* ]] ||
            bad "$file:$line: includes <$include>, which belongs to: ${owners[$headers]}"
        done
      done
    fi
  done < <(sed -nE 's/^[[:space:]]*#[[:space:]]*include[[:space:]]*["<]([^">]+)[">].*/\1/;T;=;p' "$file" | paste -d: - -)
done < <(find core -name '*.[ch]' | sort)

((n_files)) || bad "no files found under core/"
((n_bad == 0)) || { echo "$n_bad includes break the layers" && exit 1; }
echo "$n_files files keep their layers"
