#!/usr/bin/env bash
# Pictures of `paligrid bench` results, with gnuplot:
#   paligrid bench --model synthetic:3b-224 --threads 1,2 -o csv >bench.csv      # more runs may be appended
#   scripts/bench_plot.sh bench.csv [FOLDER]
# writes to FOLDER (default: where the file is)
#   scaling.png    rate of each phase over ranks x threads, relative to the smallest number there is
#   roofline.png   GFLOP/s over FLOP per byte, below the read bandwidth and the FLOP rate of the same rounds
# A decode step's operations are taken as 2 for each weight it reads and sequence, a prefill's bytes as the
# weights once: those of the decode row of the same model, weights and ranks.
set -euo pipefail

if [ $# -lt 1 ] || [ "$1" = -h ] || [ "$1" = --help ]; then
    sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "$0"
    exit $(($# < 1 ? 64 : 0))
fi
table=$1
folder=${2:-$(dirname "$table")}
command -v gnuplot >/dev/null || {
    echo "bench_plot.sh: gnuplot is missing (apt-get install gnuplot-nox)" >&2
    exit 69
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Plain columns with names: quotes off, and `file` has one header however many runs it holds.
awk -F, -v OFS='\t' '
    { gsub(/"/, "") }
    $1 == "phase" { for (i = 1; i <= NF; i++) at[$i] = i; next }
    { print $at["phase"], $at["model"], $at["weights"], $at["ranks"], $at["threads"], $at["batch"], $at["median"],
            $at["share_of_ceiling"] == "" ? 0 : $at["share_of_ceiling"],
            $at["flops"] == "" ? "-" : $at["flops"], $at["bytes"] == "" ? "-" : $at["bytes"],
            $at["read_gb_s"] == "" ? 0 : $at["read_gb_s"], $at["gflop_s"] == "" ? 0 : $at["gflop_s"] }
' "$table" >"$work/rows"
[ -s "$work/rows" ] || {
    echo "bench_plot.sh: $table: no rows of bench" >&2
    exit 65
}

# series <tab> workers <tab> rate over that of the fewest workers
awk -F'\t' -v OFS='\t' '
    $1 !~ /^(comm|load)/ { k = $1 " " $2 " " $3 " b" $6; n = $4 * $5; rate[k, n] = $7; seen[k]; if (!(k in least) || n < least[k]) least[k] = n
        workers[n] }
    END { for (k in seen) for (n in workers) if ((k, n) in rate && rate[k, least[k]] > 0) print k, n, rate[k, n] / rate[k, least[k]] }
' "$work/rows" | sort -t"$(printf '\t')" -k1,1 -k2,2n >"$work/scaling"

# name <tab> FLOP per byte <tab> GFLOP/s; and the highest ceilings on a line of their own
awk -F'\t' -v OFS='\t' -v ceilings="$work/ceilings" '
    { if ($11 > read) read = $11; if ($12 > rate) rate = $12; row[NR] = $0
      if ($1 == "decode" && $10 != "-") bytes[$2, $3, $4] = $10 }
    END {
        print read, rate > ceilings
        size["bf16"] = size["f16"] = 2; size["f32"] = 4; size["int8"] = 1; size["int4"] = 0.625
        for (i = 1; i <= NR; i++) {
            split(row[i], f, "\t")
            b = bytes[f[2], f[3], f[4]]
            if (f[8] <= 0 || !b) continue
            if (f[1] == "decode") print f[1] " " f[3] " b" f[6] " r" f[4] " t" f[5], 2 / size[f[3]] * f[6], f[8] * f[11] * 2 / size[f[3]] * f[6]
            else if (f[9] != "-") print f[1] " " f[3] " r" f[4] " t" f[5], f[9] / b, f[8] * f[12]
        }
    }' "$work/rows" >"$work/roofline"
read -r bandwidth rate <"$work/ceilings"

gnuplot <<EOF_GNUPLOT
set terminal pngcairo size 1100,700 noenhanced
set datafile separator "\t"
set key outside right
set grid
set output "$folder/scaling.png"
set xlabel "ranks x threads"
set ylabel "rate, relative"
set xtics 1
series = system("cut -f1 $work/scaling | sort -u | tr ' ' '~' | tr '\n' ' '")
name(s) = system(sprintf("printf %%s '%s' | tr '~' ' '", s))
plot for [s in series] sprintf("< awk -F'\t' -v k='%s' '\$1 == k' $work/scaling", name(s)) using 2:3 with linespoints title name(s), \
    x with lines dashtype 2 linecolor "gray" title "linear"
set output "$folder/roofline.png"
set logscale xy
set xtics auto
set xlabel "FLOP per byte read"
set ylabel "GFLOP/s"
roof(x) = x * $bandwidth < $rate ? x * $bandwidth : $rate
plot [0.5:20000] roof(x) with lines linewidth 2 title sprintf("%.1f GB/s, %.0f GFLOP/s", $bandwidth, $rate), \
    "$work/roofline" using 2:3 with points pointtype 7 notitle, "" using 2:3:1 with labels offset 0,0.8 notitle
EOF_GNUPLOT
echo "$folder/scaling.png $folder/roofline.png"
