#!/usr/bin/env bash
# Installs what pip cannot: the compiler, the sandbox and the browser that verifiers use. Does nothing where all of it is there.
#
#   scripts/install-system-packages.sh           install what is missing (apt-get; as root, or with sudo)
#   scripts/install-system-packages.sh --check   only say what is missing; exit code 1 if something is
set -euo pipefail

# The command that shows a package is there; the package of Debian and Ubuntu.
wanted=(
  "g++ g++"
  "bwrap bubblewrap"
  "chromium chromium"
  "chromedriver chromium-driver"
)

check_only=false
case "${1-}" in
  "") ;;
  --check) check_only=true ;;
  *) echo "usage: $0 [--check]" >&2; exit 2 ;;
esac

missing=()
for line in "${wanted[@]}"; do
  read -r command package <<<"$line"
  command -v "$command" >/dev/null || missing+=("$package")
done

if [ ${#missing[@]} -eq 0 ]; then
  echo "g++, bubblewrap, chromium and chromium-driver are installed."
  exit 0
fi
echo "Missing: ${missing[*]}"
if $check_only; then exit 1; fi

if ! command -v apt-get >/dev/null; then
  echo "This script knows apt-get (Debian, Ubuntu) only. Install these with your system's package manager: ${missing[*]}" >&2
  echo "Fedora: gcc-c++ bubblewrap chromium chromedriver. Arch: gcc bubblewrap chromium. openSUSE: gcc-c++ bubblewrap chromium chromedriver." >&2
  exit 1
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "Installing needs root, and there is no sudo. As root: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi

# Ubuntu has chromium as a snap, behind a package of another name.
if [ "$(. /etc/os-release && echo "${ID-}")" = ubuntu ]; then
  missing=("${missing[@]/#chromium-driver/chromium-chromedriver}")
  for i in "${!missing[@]}"; do
    if [ "${missing[$i]}" = chromium ]; then missing[i]=chromium-browser; fi
  done
fi

"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"
