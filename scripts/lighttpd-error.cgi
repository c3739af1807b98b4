#!/bin/sh
# Run by lighttpd for errors of its own (scripts/lighttpd.conf.in).
case ${REDIRECT_STATUS-} in
500) status='503 Service Unavailable' text='The service was restarted during this request' ;;
4?? | 5??) status=$REDIRECT_STATUS text='Request refused by the web server' ;;
*) status='404 Not Found' text='Not Found' ;;
esac
printf 'Status: %s\r\nContent-Type: application/json\r\n\r\n{"detail":"%s"}' "$status" "$text"
