#!/usr/bin/env bash
# run.sh TENON FOLDER: compiles a folder made by make_llama.py and shows the compile's peak memory and time, the time to
# load the library, and how much of it two processes share. By hand: it needs 5 GB of disk.
set -euo pipefail
tenon=$1 folder=$2
here=$(cd "$(dirname "$0")" && pwd)
[ -f "$folder/config.json" ] || python3 "$here/make_llama.py" "$folder"
library=$folder/libbig.so
/usr/bin/env time -v true 2>/dev/null && timer=(/usr/bin/env time -v) || timer=()
echo "== compile"
"${timer[@]}" "$tenon" compile "$folder" -o "$library" --json
echo "== load, and two processes"
python3 "$here/load.py" "$library"
