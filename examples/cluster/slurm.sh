#!/bin/bash
# A batch in eight parts, each on a node; then one table and one report of all:
#
#     job=$(sbatch --parsable --array=1-8 slurm.sh IMAGES OUT 8)
#     sbatch --dependency=afterany:$job --wrap "cellunet join OUT"
#
# Parts 3 and 5 again: sbatch --array=3,5 slurm.sh IMAGES OUT 8
#SBATCH --job-name=cellunet
#SBATCH --cpus-per-task=4
#SBATCH --mem=2G
#SBATCH --time=04:00:00
#SBATCH --signal=B:TERM@60
# A minute before the time is over, cellunet ends after the image at hand.
exec cellunet predict "$1" --out "$2" --save table --save report \
    --part "$SLURM_ARRAY_TASK_ID/$3"
