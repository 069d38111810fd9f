#!/bin/sh
# Find PgBouncer, or install Debian's package. Says in one line why there is none, and exits 1.
PATH="$PATH:/usr/sbin:/usr/local/sbin"
command -v pgbouncer >/dev/null && exit 0
if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
	echo "PgBouncer is not installed, and only root on Debian or Ubuntu can install it here: apt install pgbouncer" >&2
	exit 1
fi
echo "Installing pgbouncer …"
export DEBIAN_FRONTEND=noninteractive
{ apt-get install -qq --no-install-recommends pgbouncer || { apt-get update -qq && apt-get install -qq --no-install-recommends pgbouncer; }; } \
	>/dev/null 2>&1 && exit 0
echo "PgBouncer could not be installed: apt-get install pgbouncer says why" >&2
exit 1
