#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Puts the seven rows of docs/benchmarks-sync.md, shortened, at the end of docs/benchmarks.md, in place of those that were there.
set -euo pipefail
cd "$(dirname "$0")/../docs"
[ -e benchmarks-sync.md ] && [ -e benchmarks.md ] || exit 0
{
	sed '/^## The way between$/,$d' benchmarks.md | sed -e :a -e '/^\n*$/{$d;N;ba' -e '}' # without empty lines at its end
	printf '\n## The way between\n\n%s\n\n' "Of $(sed -n 's/.* on \([0-9-]*\), \([0-9]* cores\), .*/\1, \2/p' benchmarks-sync.md | head -n 1); what each row is, and what limits those that are missed: [benchmarks-sync.md](benchmarks-sync.md). The store: [benchmarks-store.md](benchmarks-store.md)."
	echo "|   | work | against | ratio | bar |   |"
	echo "|---|---|---|---|---|---|"
	sed -n 's/^| \([1-7]\) | /\1|/p' benchmarks-sync.md | awk -F ' *\\| *' '{ sub(/:.*/, "", $4); if ($1 == 2) $4 = "nbdcopy; qemu-img convert"; printf "| %s | %s | %s | %s | %s | %s |\n", $1, $2, $4, $5, $6, $7 }'
} >benchmarks.md.new
mv benchmarks.md.new benchmarks.md
