-- The first schema of the order platform.
--
-- Times are milliseconds since the Unix epoch, amounts are integer minor units of an ISO 4217 currency, ids are
-- UUIDv7 as 16 bytes. Every table that a merchant's data lies in carries merchant_id. States are small integers
-- so that a guard binds them as parameters; their names are in the CHECK lists and in the Rust enums.

create table merchant (
    id text primary key not null,
    name text not null,
    created_ms integer not null
) strict, without rowid;

-- A key is shown once when it is made; only its SHA-256 is kept. scopes: the sum of 1 read, 2 write, 4 refund, 8 admin.
-- expires_at_ms and used_at_ms are instants of the wall clock.
create table api_key (
    key_hash blob primary key not null,
    id blob not null unique,
    merchant_id text not null references merchant (id),
    label text not null,
    scopes integer not null check (scopes between 1 and 15),
    created_ms integer not null,
    expires_at_ms integer,
    used_at_ms integer,
    revoked_ms integer
) strict, without rowid;
create index api_key_by_merchant on api_key (merchant_id, id);

create table gateway_account (
    id blob primary key not null,
    merchant_id text not null references merchant (id),
    gateway text not null,
    name text not null,
    settings text not null,
    created_ms integer not null,
    unique (merchant_id, name)
) strict, without rowid;
create index gateway_account_by_merchant on gateway_account (merchant_id, id);

-- stocked counts every unit ever put in; available is what can be held now. The difference lies in the holds
-- that are held (1) or consumed (2), less the units of those that were returned.
create table product (
    id blob primary key not null,
    merchant_id text not null references merchant (id),
    name text not null,
    price_minor integer not null check (price_minor >= 0),
    currency text not null,
    available integer not null check (available >= 0),
    stocked integer not null check (stocked >= available),
    created_ms integer not null
) strict, without rowid;
create index product_by_merchant on product (merchant_id, id);

-- state: 1 pending, 2 closing, 3 paid, 4 closed. close_reason: 1 timeout, 2 buyer, 3 merchant.
-- needs_operator_ms: since when an order that is closing waits for a person.
-- live_attempts counts submitted payment attempts without a final answer: a closer that finds 0 need not ask a
-- gateway, and the row lock taken by whoever changes it serialises the two (a NOT EXISTS would not).
create table orders (
    id blob primary key not null,
    merchant_id text not null references merchant (id),
    merchant_order_no text not null,
    buyer_id text not null,
    state integer not null check (state between 1 and 4),
    version integer not null,
    live_attempts integer not null default 0 check (live_attempts >= 0),
    currency text not null,
    total_minor integer not null check (total_minor >= 0),
    discount_minor integer not null check (discount_minor between 0 and total_minor),
    coupon_id blob,
    deadline_ms integer not null,
    deadline_at_ms integer not null,
    created_ms integer not null,
    needs_operator_ms integer,
    paid_ms integer,
    payment_id blob,
    closed_ms integer,
    close_reason integer check (close_reason between 1 and 3),
    unique (merchant_id, merchant_order_no),
    check ((state = 3) = (paid_ms is not null)),
    check ((state = 4) = (closed_ms is not null))
) strict, without rowid;
create index orders_by_state on orders (merchant_id, state, id);
-- What the sweeper looks at: only what is open, so that it is as small as what is going on.
create index orders_pending on orders (deadline_ms) where state = 1;
create index orders_closing on orders (deadline_ms) where state = 2;
create index orders_need_operator on orders (merchant_id, id) where needs_operator_ms is not null;

-- The lines of an order are its stock holds. state: 1 held, 2 consumed, 3 released, 4 all units restocked by refunds.
-- returned: units that refunds have put back into stock.
create table hold (
    order_id blob not null references orders (id),
    line_no integer not null,
    merchant_id text not null,
    product_id blob not null references product (id),
    name text not null,
    unit_price_minor integer not null,
    quantity integer not null check (quantity > 0),
    returned integer not null default 0 check (returned between 0 and quantity),
    state integer not null check (state between 1 and 4),
    primary key (order_id, line_no)
) strict, without rowid;

-- state: 1 submitted, 2 succeeded, 3 closed, 4 failed, 5 unknown (the order was closed over it, money may still
-- come), 6 needs operator. Only state 1 counts as live.
create table attempt (
    id blob primary key not null,
    merchant_id text not null,
    order_id blob not null references orders (id),
    account_id blob not null references gateway_account (id),
    state integer not null check (state between 1 and 6),
    version integer not null,
    amount_minor integer not null check (amount_minor > 0),
    currency text not null,
    expires_ms integer not null,
    expires_at_ms integer not null,
    gateway_ref text,
    pay_url text,
    detail text,
    created_ms integer not null,
    final_ms integer
) strict, without rowid;
create index attempt_by_order on attempt (order_id, id);
create index attempt_open on attempt (expires_ms) where state in (1, 5);
create index attempt_unknown on attempt (merchant_id, id) where state = 5;
create index attempt_needs_operator on attempt (merchant_id, id) where state = 6;

-- One row per gateway transaction. kind: 1 accepted, 2 late, 3 duplicate, 4 wrong amount, 5 wrong currency.
-- refunded_minor is reserved by every refund that has not been given up.
create table payment (
    id blob primary key not null,
    merchant_id text not null,
    order_id blob not null references orders (id),
    attempt_id blob not null references attempt (id),
    account_id blob not null,
    gateway_txn text not null,
    kind integer not null check (kind between 1 and 5),
    amount_minor integer not null check (amount_minor > 0),
    currency text not null,
    refunded_minor integer not null default 0 check (refunded_minor between 0 and amount_minor),
    paid_at_ms integer not null,
    created_ms integer not null,
    unique (account_id, gateway_txn)
) strict, without rowid;
create index payment_by_order on payment (order_id, id);

-- Money a gateway reported that no payment row can hold: kind 1 unreadable (currency or amount that mean nothing, a
-- verified callback that cannot be read), 2 an attempt that is not known here, 3 a refund that is not known here.
-- state: 1 open, 2 settled by a person, 3 superseded by a report that could be read. key is the transaction, or a
-- digest of the report where it names none.
create table unmatched_payment (
    id blob primary key not null,
    merchant_id text not null,
    account_id blob not null references gateway_account (id),
    kind integer not null check (kind between 1 and 3),
    state integer not null check (state between 1 and 3),
    key text not null,
    subject text,
    attempt_id blob references attempt (id),
    amount text,
    currency text,
    raw text not null,
    paid_at_ms integer,
    reports integer not null default 1,
    created_ms integer not null,
    settled_ms integer,
    settled_by text,
    reference text,
    note text,
    unique (account_id, key),
    check ((state = 1) = (settled_ms is null))
) strict, without rowid;
create index unmatched_payment_open on unmatched_payment (id) where state = 1;

-- state: 1 requested, 2 submitted, 3 processing, 4 succeeded, 5 failed retryable, 6 needs operator, 7 withdrawn.
-- cause: 1 merchant, 2 late, 3 duplicate, 4 wrong amount, 5 wrong currency. auto_payment_id is set for the causes
-- above 1, so that a payment is refunded by itself at most once. asked_minor is null where all that was left was asked
-- for. released: its amount is no longer part of payment.refunded_minor. applied: stock and coupon were changed, which
-- happens once. reference is what a person settled it with.
create table refund (
    id blob primary key not null,
    merchant_id text not null,
    refund_no text not null,
    order_id blob not null references orders (id),
    payment_id blob not null references payment (id),
    auto_payment_id blob unique,
    state integer not null check (state between 1 and 7),
    version integer not null,
    cause integer not null check (cause between 1 and 5),
    amount_minor integer not null check (amount_minor > 0),
    asked_minor integer,
    currency text not null,
    restock integer not null check (restock in (0, 1)),
    released integer not null default 0 check (released in (0, 1)),
    applied integer not null default 0 check (applied in (0, 1)),
    reference text,
    detail text,
    created_ms integer not null,
    asked_ms integer not null,
    final_ms integer,
    unique (merchant_id, refund_no)
) strict, without rowid;
create index refund_by_order on refund (order_id, id);
create index refund_by_payment on refund (payment_id);
create index refund_by_state on refund (merchant_id, state, id);
create index refund_needs_operator on refund (merchant_id, id) where state = 6;
create index refund_open on refund (created_ms) where state in (1, 2, 3, 5);
create index refund_beyond on refund (merchant_id, id) where state = 4 and released = 1;

-- The units that come back when a refund has succeeded.
create table refund_line (
    refund_id blob not null references refund (id),
    line_no integer not null,
    quantity integer not null check (quantity > 0),
    primary key (refund_id, line_no)
) strict, without rowid;

-- A rule gives a coupon to the buyer of a paid order of at least min_total_minor. on_full_refund: what becomes of a used
-- coupon of the rule when the order that used it is refunded in full: 1 it stays used, 2 it comes back.
create table coupon_rule (
    id blob primary key not null,
    merchant_id text not null references merchant (id),
    name text not null,
    amount_off_minor integer not null check (amount_off_minor > 0),
    currency text not null,
    min_total_minor integer not null check (min_total_minor >= 0),
    valid_days integer not null check (valid_days > 0),
    active integer not null check (active in (0, 1)),
    on_full_refund integer not null default 1 check (on_full_refund in (1, 2)),
    created_ms integer not null,
    unique (merchant_id, name)
) strict, without rowid;
create index coupon_rule_active on coupon_rule (merchant_id, currency, amount_off_minor desc, id) where active = 1;

-- state: 1 free, 2 held, 3 used, 4 expired, 5 revoked. revoke_on_return marks a held coupon whose order was
-- refunded in full meanwhile.
create table coupon (
    id blob primary key not null,
    merchant_id text not null,
    rule_id blob not null references coupon_rule (id),
    source_order_id blob not null references orders (id),
    buyer_id text not null,
    amount_off_minor integer not null,
    currency text not null,
    state integer not null check (state between 1 and 5),
    version integer not null,
    -- Set before the order it names is inserted, in one transaction.
    held_by blob references orders (id) deferrable initially deferred,
    revoke_on_return integer not null default 0 check (revoke_on_return in (0, 1)),
    expires_ms integer not null,
    created_ms integer not null,
    unique (source_order_id, rule_id),
    check ((state in (2, 3)) = (held_by is not null))
) strict, without rowid;
create index coupon_by_buyer on coupon (merchant_id, buyer_id, id);
create index coupon_free on coupon (expires_ms) where state = 1;

-- Paid orders whose coupon has not been decided: deleting the row is what decides, so a repeated order.paid event
-- changes nothing.
create table coupon_due (
    order_id blob primary key not null,
    merchant_id text not null,
    since_ms integer not null
) strict, without rowid;
create index coupon_due_since on coupon_due (since_ms);

-- kind: 1 order deadline, 2 order closing, 3 payment attempt, 4 refund, 5 coupon expiry, 6 webhook. The row is deleted when
-- nothing more can happen. due_ms is what the timer is for, next_fire_ms when its message comes; only the message
-- that carries the row's hop counts. parked rows wait for a pause to end. The key begins with the id: a statement that
-- joins a list of ids cannot mistake `kind = ?` for something worth searching by.
create table timer (
    kind integer not null check (kind between 1 and 6),
    id blob not null,
    merchant_id text not null,
    due_ms integer not null,
    next_fire_ms integer not null,
    version integer not null,
    hop integer not null,
    tries integer not null,
    parked integer not null check (parked in (0, 1)),
    primary key (id, kind)
) strict, without rowid;
create index timer_by_fire on timer (parked, next_fire_ms);

-- topic: the six timer kinds, or 10 for events. Timer rows are deleted once published, event rows are kept.
-- unsent is 1 until published, then 0; a row the broker refuses for good is set to 2 and stays for a person.
create table outbox (
    seq integer primary key autoincrement,
    merchant_id text not null,
    shard integer not null,
    topic integer not null,
    message_id text not null,
    subject text not null,
    tag text not null,
    deliver_at_ms integer,
    body text not null,
    created_ms integer not null,
    unsent integer not null check (unsent between 0 and 2),
    sent_ms integer,
    refusal text
) strict;
create index outbox_unsent on outbox (unsent, topic, seq) where unsent > 0;
create index outbox_parked on outbox (subject) where unsent = 2;
-- A merchant reads its own events in the order of seq, which the index has at its end.
create index outbox_events on outbox (merchant_id) where topic = 10;

-- Up to which row of the outbox events of a merchant were deleted: an older cursor would miss some.
create table event_lost (
    merchant_id text primary key not null,
    seq integer not null
) strict, without rowid;

-- state: 1 active, 2 off, 3 disabled after failures, 4 deleted. types is a JSON list of event types, empty for all.
-- seen_seq: up to which row of the outbox events have become deliveries. old_secret signs too until its instant.
create table webhook (
    id blob primary key not null,
    merchant_id text not null references merchant (id),
    url text not null,
    types text not null,
    state integer not null check (state between 1 and 4),
    secret blob not null,
    old_secret blob,
    old_secret_until_ms integer,
    seen_seq integer not null,
    failing_since_ms integer,
    created_ms integer not null
) strict, without rowid;
create index webhook_by_merchant on webhook (merchant_id, id);

-- The delivery of an event to an endpoint. state: 1 due, 2 queued until an earlier event of its subject has ended,
-- 3 delivered, 4 given up. seq is the event's row of the outbox; log a JSON list of the last tries. The unique index
-- holds the order: of a subject one delivery at a time.
create table webhook_delivery (
    id blob primary key not null,
    webhook_id blob not null references webhook (id),
    merchant_id text not null,
    event_id text not null,
    kind text not null,
    subject text not null,
    seq integer not null,
    state integer not null check (state between 1 and 4),
    version integer not null,
    tries integer not null,
    next_ms integer not null,
    log text not null,
    created_ms integer not null,
    ended_ms integer,
    check ((state in (3, 4)) = (ended_ms is not null))
) strict, without rowid;
create index webhook_delivery_by_state on webhook_delivery (webhook_id, state, id);
create unique index webhook_delivery_head on webhook_delivery (webhook_id, subject) where state = 1;
create index webhook_delivery_open on webhook_delivery (webhook_id, subject, seq, id) where state in (1, 2);
create index webhook_delivery_due on webhook_delivery (next_ms) where state = 1;
create index webhook_delivery_ended on webhook_delivery (ended_ms) where state in (3, 4);

-- Who relays a shard of the outbox, until when.
create table outbox_lease (
    shard integer primary key not null,
    owner text not null,
    until_ms integer not null
) strict;

-- subject is the order, coupon, product, merchant or pause that the row is about; seq gives the order in which rows were
-- committed. who is the API key or the operator that asked for it, if a request did.
create table audit (
    seq integer primary key autoincrement,
    subject text not null,
    merchant_id text not null,
    at_ms integer not null,
    entity text not null,
    actor text not null,
    who text,
    action text not null,
    from_state text,
    to_state text,
    detail text
) strict;
create index audit_by_subject on audit (subject);

-- The unique insert is the claim. response is what the first request was answered.
create table idempotency (
    merchant_id text not null,
    key text not null,
    fingerprint text not null,
    response text not null,
    created_ms integer not null,
    primary key (merchant_id, key)
) strict;

-- scope: 1 everything, 2 a merchant, 3 a gateway account; subject is '' or the id. state: 1 paused, 2 resuming
-- (its parked timers are being released at a limited rate), 3 ended. walk names the walk over the parked timers that began
-- after this pause had ended; only that walk takes it to 3. cause: 1 an operator or a merchant, 2 the clock at a start.
create table pause (
    scope integer not null check (scope between 1 and 3),
    subject text not null,
    merchant_id text,
    state integer not null check (state between 1 and 3),
    cause integer not null default 1 check (cause in (1, 2)),
    walk integer,
    reason text not null,
    since_ms integer not null,
    primary key (scope, subject),
    check (walk is null or state = 2)
) strict, without rowid;

-- Numbers that the platform goes on from after a restart: paced_until_ms, up to when released timers are spread.
create table mark (
    name text primary key not null,
    value integer not null
) strict, without rowid;
