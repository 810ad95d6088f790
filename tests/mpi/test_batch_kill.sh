#!/usr/bin/env bash
# RANKS: 1
# TIMEOUT: 300
# SLOW
# A short kill campaign: the named moments that matter most and a few random ones. The long one:
# scripts/kill_campaign.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
exec scripts/kill_campaign.sh --moments 4 --random 3 --records 30 --seed "${SEED:-3}" --work "$TEST_TMP/kill"
