#!/bin/sh
# Find Chromium and curl, or install Debian's packages. Says in one line what is missing and why, and exits 1.
missing=
command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null ||
	missing=chromium
command -v curl >/dev/null || missing="$missing curl"
missing=${missing# }
[ -z "$missing" ] && exit 0
if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
	echo "Not installed, and only root on Debian or Ubuntu can install it here: apt install $missing" >&2
	exit 1
fi
echo "Installing $missing …"
export DEBIAN_FRONTEND=noninteractive
install() { apt-get install -qq --no-install-recommends $missing; }
{ install || { apt-get update -qq && install; }; } >/dev/null 2>&1 && exit 0
echo "Could not be installed: apt-get install $missing says why" >&2
exit 1
