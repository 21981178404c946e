#!/bin/sh
# Fetches the real servers and agents that test/integration runs into .parts.
# A part is a folder beside this script; what lies in it says what it is made of:
#   pom.xml           jars of Maven, into lib; *.java beside it is compiled into classes
#   go-install        arguments of go install, a program into bin
#   packages          Debian packages, unpacked and not installed, into root
#   requirements.txt  Python packages, into site
# Maven, Go, apt and pip verify the checksums of what they fetch. What is there
# and made of the same files is left alone.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
out=$(cd "$here/../../.." && pwd)/.parts

die() { echo "make parts: $*" >&2; exit 1; }

need() { # COMMAND PACKAGE
  command -v "$1" >/dev/null || die "$1 is missing: apt-get install $2"
}

need_java() {
  need javac default-jdk-headless
  need mvn maven
  version=$(javac -version 2>&1 | sed 's/^javac \([0-9]*\).*/\1/')
  [ "$version" -ge 17 ] || die "javac is of Java $version, and 17 or later is needed: apt-get install openjdk-17-jdk-headless"
}

from_maven() { # FROM TO
  need_java
  mvn -q -B --strict-checksums -f "$1/pom.xml" org.apache.maven.plugins:maven-dependency-plugin:2.8:copy-dependencies \
    -DoutputDirectory="$2/lib" -DincludeScope=runtime >"$2/log" 2>&1 || { cat "$2/log" >&2; exit 1; }
  for source in "$1"/*.java; do
    [ -e "$source" ] || continue
    javac -nowarn -cp "$2/lib/*" -d "$2/classes" "$source"
  done
}

from_go() { # FROM TO
  need go golang
  GOBIN=$2/bin CGO_ENABLED=0 go install -trimpath $(cat "$1/go-install")
}

from_debian() { # FROM TO
  need apt-get apt
  need dpkg dpkg
  mkdir "$2/debs"
  (cd "$2/debs" && apt-get -qq -o APT::Sandbox::User=root download $(cat "$1/packages")) ||
    die "apt knows no such package or version: run apt-get update"
  for deb in "$2"/debs/*.deb; do dpkg -x "$deb" "$2/root"; done
  rm -r "$2/debs"
  # What the system has to have besides.
  folders=$(find "$2/root" -name '*.so*' -exec dirname {} + | sort -u | paste -sd:)
  missing=$(find "$2/root/usr" -name '*.so' -o -path '*/sbin/*' | LD_LIBRARY_PATH=$folders xargs ldd 2>/dev/null |
    sed -n 's/^[[:space:]]*\(.*\) => not found/\1/p' | sort -u | paste -sd' ')
  [ -z "$missing" ] || die "$1 needs libraries that are not installed: $missing (libcurl.so.4 is of libcurl4)"
}

from_pip() { # FROM TO
  need python3 python3
  python3 -m pip --version >/dev/null 2>&1 || die "pip is missing: apt-get install python3-pip"
  python3 -m pip -q install --root-user-action ignore --no-deps --no-compile --target "$2/site" -r "$1/requirements.txt"
}

fetch() { # PART
  from=$here/$1 to=$out/$1 # set -e is off within || and &&: no part is fetched there
  [ -d "$from" ] || die "no part $1; there are: $(parts)"
  made_of=$(cat "$from"/* | sha256sum)
  if [ "$made_of" = "$(cat "$to/made-of" 2>/dev/null)" ]; then
    return
  fi
  echo "fetching $1"
  new=$to.new-$$
  mkdir -p "$new"
  trap 'rm -rf "$new"' EXIT
  if [ -e "$from/pom.xml" ]; then from_maven "$from" "$new"; fi
  if [ -e "$from/go-install" ]; then from_go "$from" "$new"; fi
  if [ -e "$from/packages" ]; then from_debian "$from" "$new"; fi
  if [ -e "$from/requirements.txt" ]; then from_pip "$from" "$new"; fi
  echo "$made_of" >"$new/made-of"
  rm -rf "$to"
  mv "$new" "$to"
}

parts() { (cd "$here" && for p in */; do printf '%s ' "${p%/}"; done); }

# What Debian has is run as it is installed there, and is needed by what is run.
check_programs() {
  need promtool prometheus
  need redis-server redis-server
  need nginx nginx-light
  need kcat kcat
}

if [ $# -gt 0 ]; then
  for part; do fetch "$part"; done
  exit
fi
for part in $(parts); do fetch "$part"; done
check_programs
echo "all parts are in .parts"
