# SPDX-License-Identifier: Apache-2.0
# Makes this machine a node: installs the agent, joins, starts it. Runs at every boot until that is done, then removes
# itself; to run it twice is harmless. Everything that differs between machines is read from the files beside it.
#
# Each stage is told on the console in one line:
#   WINDLASS-MARK node=NAME stage=STAGE state=reached|retrying|failed [code=CODE attempt=N detail="TEXT"]
set -u
here=/var/lib/windlass-first-boot
cd "$here" || exit 1
read -r node <node
read -r package <package
read -r controller <controller

case " $(cat /sys/class/tty/console/active 2>/dev/null) " in
  *" ttyS0 "*) console=/dev/ttyS0 ;;
  *) console=/dev/console ;;
esac

# One write, on a line of its own: the kernel and systemd write there too.
mark() {
  printf '\nWINDLASS-MARK node=%s stage=%s state=%s%s\n' "$node" "$1" "$2" "${3:-}" >>"$console"
}

# The last line of the log that tells of a failure, or the last at all, without what could end the mark's line early.
detail() {
  { grep -iE 'error|fail|no match|unable|cannot|refused|not joined|not signed' log || cat log; } |
    tail -n 1 | tr -cd '[:print:]' | tr -d '"\\' | cut -c1-300
}

# Signed wrongly, not there, or not reached: told apart by what dnf 4, dnf 5 and yum 3 say.
why_not_installed() {
  if grep -qiE 'gpg check failed|gpg signature|gpg verification|not signed|bad signature|not correct for this package|public key for .* is not installed' log; then
    echo wrong-signature
  elif grep -qiE 'no match for argument|unable to find a match|no package .* available' log; then
    echo package-missing
  elif grep -qiE 'repomd\.xml|failed to download|could not resolve|cannot retrieve|connection refused|curl error|no more mirrors|timed out' log; then
    echo repository-unreachable
  else
    echo not-installed
  fi
}

# What the database has may be half on the disk, if the power failed while it was installed.
install_agent() {
  action=install
  if rpm -q "$package" >log 2>&1; then
    rpm -V --nodeps "$package" >>log 2>&1 && return 0
    action=reinstall
  fi
  if command -v dnf >/dev/null 2>&1; then
    set -- dnf -y --refresh '--disablerepo=*'
  elif command -v yum >/dev/null 2>&1; then
    yum clean expire-cache >/dev/null 2>&1
    set -- yum -y '--disablerepo=*'
  else
    echo "there is neither dnf nor yum on this machine" >log
    code="no-package-manager"
    return 1
  fi
  while read -r repository; do
    set -- "$@" "--enablerepo=$repository"
  done <repositories
  "$@" "$action" "$package" >log 2>&1 </dev/null && rpm -q "$package" >>log 2>&1 && sync && return 0
  code=$(why_not_installed)
  return 1
}

join_controller() {
  set -- --controller "$controller" --token-file "$here/token"
  while read -r pin; do
    set -- "$@" --ca-pin "$pin"
  done <pins
  windlass-agent join "$@" >log 2>&1 </dev/null
  case $? in
    0) return 0 ;;
    69) code="controller-unreachable" ;;
    77) code="join-refused" ;;
    *) code="not-joined" ;;
  esac
  return 1
}

# What was to be read from a cloud is read, and nothing else here shall read it. That unit comes after cloud-init, which may
# wait for this one.
start_agent() {
  code="not-started"
  systemctl enable windlass-agent.service windlass-metadata.service >log 2>&1 &&
    systemctl start --no-block windlass-metadata.service >>log 2>&1 &&
    systemctl start windlass-agent.service >>log 2>&1
}

# No second chance: what is refused stays refused, and no secret is left lying here.
give_up() {
  rm -f "$here/token"
  systemctl disable windlass-first-boot.service
  exit 1
}

# reach STAGE COMMAND: again after 2, 4, 8, 16 and 30 seconds, then not before the next boot.
reach() {
  attempt=1
  for pause in 2 4 8 16 30 last; do
    code=unknown
    "$2" && cat log && mark "$1" reached && return 0
    cat log
    told=" code=$code attempt=$attempt detail=\"$(detail)\""
    if [ "$code" = join-refused ]; then
      mark "$1" failed "$told"
      give_up
    elif [ "$pause" = last ]; then
      mark "$1" failed "$told"
      exit 1
    fi
    mark "$1" retrying "$told"
    sleep "$pause"
    attempt=$((attempt + 1))
  done
}

reach agent-installed install_agent
reach enrolled join_controller
rm -f token
reach agent-started start_agent
systemctl disable windlass-first-boot.service
rm -rf "$here" /etc/systemd/system/windlass-first-boot.service
