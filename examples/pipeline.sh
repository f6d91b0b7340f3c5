#!/bin/sh
# Segment whatever `find` finds, and join the tables of all images.
#
#     sh examples/pipeline.sh IMAGES OUT
#
# NUL between names (-print0, sort -z, xargs -0) lets names hold blanks and line breaks.
set -eu
find "$1" -name '*.tif' -print0 | cellunet predict - --out "$2" --save table

# The header of the first table, the rows of all. The run's own $2/table.csv holds the
# same; this is how to join the tables of several runs.
find "$2" -name '*_table.csv' -print0 | sort -z |
    xargs -0 awk 'FNR > 1 || NR == 1' >"$2/joined.csv"
