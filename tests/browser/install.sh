#!/bin/sh
# Find Chromium, or install Debian's package. Says in one line why there is none, and exits 1.
for name in chromium chromium-browser google-chrome; do command -v $name >/dev/null && exit 0; done
if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
	echo "Chromium is not installed, and only root on Debian or Ubuntu can install it here: apt install chromium" >&2
	exit 1
fi
echo "Installing chromium …"
export DEBIAN_FRONTEND=noninteractive
{ apt-get install -qq --no-install-recommends chromium || { apt-get update -qq && apt-get install -qq --no-install-recommends chromium; }; } \
	>/dev/null 2>&1 && exit 0
echo "Chromium could not be installed: apt-get install chromium says why" >&2
exit 1
