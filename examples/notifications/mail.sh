#!/bin/sh
# Mail what needs somebody, for MDMessageCmd:
#
#   MDMessageCmd "/usr/local/bin/mail.sh hostmaster@example.org"
#
# It is called as `mail.sh ADDRESS EVENT NAME`. What goes well is not worth a mail; `errored` comes once an hour at
# most and `expiring` once a day. SENDMAIL names another program than /usr/sbin/sendmail.
set -eu

address=$1
event=$2
domain=$3

case $event in
errored) subject="$domain: no new certificate" ;;
expiring) subject="$domain: the certificate expires soon" ;;
*) exit 0 ;;
esac

{
    printf 'To: %s\nSubject: %s\nContent-Type: text/plain; charset=utf-8\n\n' "$address" "$subject"
    printf 'On %s:\n\n' "$(uname -n)"
    # Its lines have what failed, and what to do. A failure here is no reason to send nothing.
    mdconnector --no-color status "$domain" 2>&1 || true
} | "${SENDMAIL:-/usr/sbin/sendmail}" -t
