#!/bin/sh
# Make tests/data/oracle (the compact set) from what run_all.sh wrote:  sh make_data.sh OUT [DATA]
set -e
out=$(cd "$1" && pwd); cd "$(dirname "$0")"; d=${2:-../../tests/data/oracle}
rm -rf "$d"; mkdir -p "$d/golden" "$d/tok4096" "$d/tok512"
cp -r "$out/ckpt/micro" "$d/ckpt_micro"
cp "$out/tok4096/tokenizer.model" "$out/tok4096/tokenizer.json" "$d/tok4096/"
cp "$out/tok512/tokenizer.model" "$out/tok512/tokenizer.json" "$out/tok512/added_tokens.json" "$d/tok512/"
cp -r "$out/images" "$d/images"
cp "$out/tok512.tsv" "$out/tok4096.tsv" "$out/preprocess.h5" "$d/"
for c in micro gqa2 gqa4 caps mha tp hot; do
  cases=compact; [ $c = micro ] && cases=all
  python golden.py --ckpt "$out/ckpt/$c" --images "$d/images" --out "$d/golden/$c.f32.h5" --cases $cases --compact
  case $c in micro|gqa4|tp)
    python golden.py --ckpt "$out/ckpt/$c" --images "$d/images" --out "$d/golden/$c.bf16.h5" --compute bf16 --force "$d/golden/$c.f32.h5" --cases compact --compact;;
  esac
done
chmod -R a+rX "$d"; du -sh "$d"
