#!/bin/bash
# Replays a Dockerfile's steps, or runs a command, in a root of its own, with Debian's /usr and nothing else of this machine.
#
#   replay.sh ROOT SCRIPT [CACHE]      SCRIPT as root, in a root that may be written to; CACHE is uv's
#   replay.sh --read-only ROOT SCRIPT  SCRIPT as user and group 10001, in a root that may not; but /data, /app/logs and scratch
#
# To be called in a mount namespace: unshare --mount.
set -euo pipefail

mount --make-rprivate /
user=0
if [ "$1" = --read-only ]; then
    user=10001
    shift
fi
root=$1 script=$2

mkdir -p "$root"/{usr,etc,proc,dev,var/tmp,cache,opt}
for link in bin lib lib64 sbin; do
    [ -L "$root/$link" ] || ln -s "usr/$link" "$root/$link"
done
mkdir -p "$root.local"
mount --bind /usr "$root/usr"
mount -o remount,bind,ro "$root/usr"
mount --bind "$root.local" "$root/usr/local"
mount --bind /etc "$root/etc"
mount -o remount,bind,ro "$root/etc"
mount --bind /dev "$root/dev"
mount -t proc proc "$root/proc"

if [ "$user" = 0 ]; then
    [ -z "${3:-}" ] || mount --bind "$3" "$root/cache"
else
    mount --bind "$root" "$root.sealed"
    mount --rbind "$root/usr" "$root.sealed/usr"
    for place in etc dev proc; do
        mount --bind "$root/$place" "$root.sealed/$place"
    done
    mount -o remount,bind,ro "$root.sealed"
    for place in data app/logs app/keys; do
        mount --bind "$root/$place" "$root.sealed/$place"
    done
    mount -t tmpfs -o mode=1777 tmpfs "$root.sealed/var/tmp"
    root=$root.sealed
fi
exec chroot --userspec="$user:$user" --groups="$user" "$root" /bin/sh -euc "$script"
