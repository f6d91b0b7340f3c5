#!/bin/sh
# A batch in parts with GNU parallel, on this machine or on several; then one table of all:
#
#     parallel.sh IMAGES OUT PARTS [--sshlogin NODE1,NODE2 ...]
#
# Every part has one thread, so that as many run at once as there are cores.
images=$1 out=$2 parts=$3
shift 3
seq "$parts" | parallel --quote "$@" \
    cellunet predict "$images" --out "$out" --save table --threads 1 --part "{}/$parts"
# Whatever became of them: parts and images that are missing are named.
cellunet join "$out"
