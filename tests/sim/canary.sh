#!/bin/sh
# canary.sh TRUE BROKEN COUNT PATTERN: passes when the program with one rule broken fails on a seed from 1 to COUNT in
# the way of PATTERN, and the true program does not fail on that seed.
true_sim=$1 broken_sim=$2 count=$3 pattern=$4
"$broken_sim" --seeds 1 "$count" | grep -E "^seed [0-9]+: .*($pattern)" | {
    while read -r _ seed rest; do
        if "$true_sim" --seed "${seed%:}" >/dev/null; then
            echo "found by seed ${seed%:} $rest"
            exit 0
        fi
    done
    echo "not found in $count seeds"
    exit 1
}
