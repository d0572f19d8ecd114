#!/bin/sh
# Runs a small shop against a Duetime order platform with nothing but curl.
#
#   sh examples/shop-curl/shop.sh [URL]      URL: http://127.0.0.1:8080 by default, where `duetime serve` listens
#
# An order that is not paid closes at its deadline; an order that is paid stays paid and is partly refunded;
# money that arrives after the deadline is refunded. Exits with 1 when an answer is not the expected one.
set -eu

URL=${1:-http://127.0.0.1:8080}
RUN=$(date +%s)-$$

fail() {
    echo "unexpected: $*" >&2
    exit 1
}

# call METHOD PATH [JSON]: prints the answer; the process fails on an HTTP status of 400 or above.
call() {
    if [ $# -gt 2 ]; then
        # The same request has the same key, so a repetition would have no second effect.
        key=$RUN-$(printf %s "$2$3" | cksum | tr -d ' ')
        curl --silent --show-error --fail-with-body --request "$1" "$URL$2" \
            --header "Idempotency-Key: $key" \
            --header 'Content-Type: application/json' --data "$3" || fail "$1 $2"
    else
        curl --silent --show-error --fail-with-body --request "$1" "$URL$2" || fail "$1 $2"
    fi
}

# value NAME: prints the first value with this name in the JSON on standard input.
value() {
    grep -o "\"$1\":\"\{0,1\}[^\",}]*" | head -n 1 | sed 's/^[^:]*:"\{0,1\}//'
}

# expect WHAT WANTED FOUND
expect() {
    [ "$2" = "$3" ] || fail "$1 is $3, not $2"
    echo "  $1: $3"
}

# await PATH NAME VALUE: asks until the first NAME of the answer is VALUE, for at most 20 s.
await() {
    tries=0
    until [ "$(call GET "$1" | value "$2")" = "$3" ]; do
        tries=$((tries + 1))
        [ "$tries" -lt 100 ] || fail "$1 has no $2 $3 after 20 s"
        sleep 0.2
    done
    echo "  $1: $2 $3"
}

# order NUMBER DEADLINE_MS: creates an order of one unit, prints its id.
order() {
    call POST /v1/orders "{\"merchant_order_no\":\"$RUN-$1\",\"buyer_id\":\"buyer-7\",\"deadline_after_ms\":$2,
        \"lines\":[{\"product_id\":\"$PRODUCT\",\"quantity\":1}]}" | value id
}

# attempt ORDER: starts a payment attempt, prints where the buyer pays.
attempt() {
    call POST "/v1/orders/$1/payments" "{\"account_id\":\"$ACCOUNT\"}" | value pay_url
}

available() {
    call GET "/v1/products/$PRODUCT" | value available
}

echo "A product with 5 units, and an account at the simulated payment gateway"
PRODUCT=$(call POST /v1/products '{"name":"Concert ticket","price_minor":4900,"currency":"EUR","stock":5}' | value id)
ACCOUNT=$(call POST /v1/gateways "{\"gateway\":\"simulator\",\"name\":\"shop $RUN\"}" | value id)
echo "  $PRODUCT, $ACCOUNT"

echo "An order that is not paid within 3 s closes at its deadline, and its unit is returned"
UNPAID=$(order unpaid 3000)
expect "units available" 4 "$(available)"
await "/v1/orders/$UNPAID" state closed
expect "close reason" timeout "$(call GET "/v1/orders/$UNPAID" | value close_reason)"
expect "units available" 5 "$(available)"

echo "An order that is paid in time stays paid; 9.00 of the 49.00 are refunded"
PAID=$(order paid 600000)
call POST "$(attempt "$PAID")" '{}' >/dev/null
await "/v1/orders/$PAID" state paid
REFUND=$(call POST "/v1/orders/$PAID/refunds" '{"refund_no":"R-'"$RUN"'","amount_minor":900}' | value id)
await "/v1/refunds/$REFUND" state succeeded
expect "units available" 4 "$(available)"

echo "Money that arrives after the deadline is refunded, and the order stays closed"
LATE=$(order late 2000)
PAY=$(attempt "$LATE")
await "/v1/orders/$LATE" state closed
call POST "$PAY" '{"forced":true}' >/dev/null
await "/v1/orders/$LATE/refunds" state succeeded
expect "state of the order" closed "$(call GET "/v1/orders/$LATE" | value state)"
expect "units available" 4 "$(available)"

echo "Everything went as expected."
