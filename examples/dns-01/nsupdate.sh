#!/bin/sh
# A dns-01 command for MDChallengeDns01 for any name server that takes dynamic updates (BIND, Knot, PowerDNS).
#
#   MDChallengeDns01 /usr/local/bin/nsupdate.sh /etc/dns-01.conf
#
# It is called as `nsupdate.sh CONF setup DOMAIN VALUE` and `... teardown DOMAIN [VALUE]`. CONF is read by this
# shell, so let root alone write it:
#
#   server=192.0.2.53                 the primary, to which updates go
#   key=/etc/dns-01.key               a TSIG key as tsig-keygen prints it, mode 0600; empty for none
#   port=53
#   ttl=60
#
# It ends when the primary itself shows the record. Where the CA asks secondaries, give them time: pause=30.
set -eu

port=53
ttl=60
key=
pause=0
# shellcheck source=/dev/null # the administrator's
. "$1"
action=$2
record="_acme-challenge.$3."
value=${4:-}

update() {
    printf 'server %s %s\n%s\nsend\n' "$server" "$port" "$1" | nsupdate -v ${key:+-k "$key"}
}

is_shown() {
    dig +short +tcp -p "$port" @"$server" TXT "$record" | grep -qxF "\"$value\""
}

case $action in
setup)
    # A value is added to those that are there: example.org and *.example.org need one each.
    update "update add $record $ttl TXT \"$value\""
    tries=0
    until is_shown; do
        tries=$((tries + 1))
        [ "$tries" -lt 30 ] || { echo "$server does not show $record" >&2; exit 1; }
        sleep 1
    done
    sleep "$pause"
    ;;
teardown)
    update "update delete $record TXT${value:+ \"$value\"}"
    ;;
*)
    echo "unknown action $action" >&2
    exit 1
    ;;
esac
