#!/usr/bin/env bash
# Installs what pip cannot: the compiler and the sandbox that the verifiers use, and Chromium with its driver.
# Does nothing where all of it is there. Debian and Ubuntu; elsewhere it says what to install.
set -euo pipefail

declare -A package=([g++]=g++ [bwrap]=bubblewrap [chromium]=chromium [chromedriver]=chromium-driver)
missing=()
for program in "${!package[@]}"; do
    command -v "$program" >/dev/null || missing+=("${package[$program]}")
done
if [ ${#missing[@]} -eq 0 ]; then
    echo "System packages: all there."
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "Please install with this system's package manager: ${missing[*]}" >&2
    exit 1
fi
as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}"
