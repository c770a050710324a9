#!/bin/sh
# Run once inside the new system, as root, by the image build. What it needs to know comes in HG_* variables.
set -eu

# People and services
useradd --create-home --shell /bin/bash --groups sudo,audio,video --uid 1000 "$HG_USER"
printf '%s:%s\n' "$HG_USER" "$HG_PASSWORD" | chpasswd
for app in $HG_APP_USERS; do
    useradd --system --no-create-home --home-dir /var/lib/harmgym --shell /usr/sbin/nologin "$app"
done
echo "$HG_HOSTNAME" > /etc/hostname
printf 'LANG=C.UTF-8\n' > /etc/default/locale
ln -sf /usr/share/zoneinfo/UTC /etc/localtime
printf '%s\n' "$HG_MACHINE_ID" > /etc/machine-id
rm -f /etc/resolv.conf /var/lib/dbus/machine-id /etc/apt/apt.conf.d/99mmdebstrap
printf '%s\n' "$HG_SOURCES" > /etc/apt/sources.list
printf '/dev/vda / ext4 rw,noatime 0 0\n' > /etc/fstab
# Without it systemd moves the clock forward to the day it was compiled on.
touch /usr/lib/clock-epoch
printf 'root: %s\n' "$HG_USER" > /etc/aliases
mkdir -p /var/lib/systemd/linger /var/lib/harmgym
touch "/var/lib/systemd/linger/$HG_USER"
printf '\n[ -f /etc/harmgym-bashrc ] && . /etc/harmgym-bashrc\n' >> /etc/bash.bashrc

# Home folder
home="/home/$HG_USER"
mkdir -p "$home/.mozilla/firefox/desktop" "$home/Desktop" "$home/Documents" "$home/Downloads" "$home/Pictures" "$home/Mail/inbox" "$home/Mail/sent" \
    "$home/Mail/draft" "$home/Mail/queue" "$home/Mail/trash"
for app in files browser mail editor terminal; do
    cp "/usr/share/applications/harmgym-$app.desktop" "$home/Desktop/$app.desktop"
done
touch "$home/.sudo_as_admin_successful"
chown -R "$HG_USER:$HG_USER" "$home"

# Services. Masking goes first: `enable` refuses what is masked.
for unit in $HG_MASK; do ln -sf /dev/null "/etc/systemd/system/$unit"; done
systemctl enable --quiet $HG_ENABLE
systemctl set-default --quiet graphical.target

# Menu entries that would only confuse
for entry in debian-uxterm debian-xterm tint2 tint2conf openbox python3.11 vim yad-icon-browser yad-settings jgmenu jgmenu-lx \
    pcmanfm-desktop-pref org.xfce.mousepad-settings firefox-esr claws-mail pcmanfm org.xfce.mousepad; do
    file="/usr/share/applications/$entry.desktop"
    if [ -f "$file" ]; then sed -i '/^NoDisplay=/d; 0,/^\[Desktop Entry\]/s//[Desktop Entry]\nNoDisplay=true/' "$file"; fi
done

# Nothing of the build stays behind
rm -rf /var/cache/apt/archives/*.deb /var/cache/debconf/*-old /var/lib/dpkg/*-old /var/log/*.log /var/log/apt /root/.cache

# No file comes from the future of the guest's clock.
build=$(dirname "$0")
until=$(date --date="$HG_FILES_UNTIL" +%s)
python3 -B "$build/cut_times.py" "$until" /
# Caches are tied to the times of what they describe, so they come after.
update-desktop-database -q /usr/share/applications
for theme in /usr/share/icons/*/index.theme; do gtk-update-icon-cache -q -f "$(dirname "$theme")" || true; done
fc-cache -f
runuser -u "$HG_USER" -- env HOME="$home" python3 -B "$build/warm_browser.py" "$until"
# mmdebstrap still needs its own files here: without them it would work on the host's package lists.
find /tmp -mindepth 1 -maxdepth 1 ! -name 'mmdebstrap.*' -exec rm -rf {} +
rm -rf /var/log/lastlog /var/log/faillog
python3 -B "$build/cut_times.py" "$until" /etc /home /tmp /var /usr/share/icons /usr/share/applications
