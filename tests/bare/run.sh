#!/bin/bash
# The README's two commands in a bare Debian: as root below a folder that only root may enter, and as an ordinary user.
#
#   sudo tests/bare/run.sh FOLDER [COMMAND]      COMMAND is run in both checkouts; default: make demo, make test test-kills
#
# Needs root, git and debootstrap. FOLDER/SUITE (SUITE=testing) is made once, from MIRROR if set, and stays; the
# checkouts are clones of HEAD. There are no user namespaces in it, as in a container, because the kernel refuses them
# below a chroot. /dev/shm has 64 MB.
set -euo pipefail
cd "$(dirname "$0")/../.."

root=$(realpath -m "$1")/${SUITE:=testing}
command=${2:-'make demo ARGS="--tokens 10" && make test test-kills'}

if [ ! -e "$root/.complete" ]; then
	debootstrap --variant=minbase --include=python3,python3-venv,make,git,ca-certificates "$SUITE" "$root" ${MIRROR:-}
	chroot "$root" useradd --create-home user
	touch "$root/.complete"
fi
cp /etc/resolv.conf "$root/etc/"
for certificates in "${SSL_CERT_FILE:-}" "${PIP_CERT:-}"; do
	[ -z "$certificates" ] || cp --dereference --parents "$certificates" "$root"
done

# NAME USER FOLDER: clone there, and run the command.
try() {
	echo "== $1"
	rm -rf "${root:?}$3"
	git clone --quiet . "$root$3"
	chroot "$root" chown -R "$2:" "$3"
	SHELL_COMMAND="cd '$3' && $command" USER_NAME=$2 ROOT=$root unshare --mount --pid --fork --kill-child sh -ec '
		mount -t proc proc "$ROOT/proc"
		mount --bind /dev "$ROOT/dev"
		mount -t devpts -o ptmxmode=666 devpts "$ROOT/dev/pts"
		mount -t tmpfs -o size=64m tmpfs "$ROOT/dev/shm"
		exec chroot "$ROOT" setpriv --reuid="$USER_NAME" --regid="$USER_NAME" --clear-groups env -i \
			HOME="/$([ "$USER_NAME" = root ] || echo home/)$USER_NAME" LANG=C PATH=/usr/bin:/bin:/usr/sbin:/sbin \
			${SSL_CERT_FILE:+SSL_CERT_FILE="$SSL_CERT_FILE"} ${PIP_CERT:+PIP_CERT="$PIP_CERT"} sh -c "$SHELL_COMMAND"'
}

try "root, below a folder that only root may enter" root /root/reactor
try "an ordinary user" user "/home/user/with a space/reactor"
