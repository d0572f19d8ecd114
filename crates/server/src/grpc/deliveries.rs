//! Keeps the deliveries that consumers have not settled, by answer: renews their leases, and takes back those that
//! did not reach their consumer.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeSet, HashMap};
use std::hash::BuildHasher as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use broker::ReceiptHandle;
use tokio::sync::Notify;

use super::Shared;
use super::batch::{Batch, Given, Stage, WORDS};
use super::connection::Connection;
use super::limits::{
    ATTEMPT_ID_BYTES_MAX, BATCH_MAX, LEASE_LEFT_MS, LEASE_MS, OUTSTANDING_MAX, RENEW_AHEAD_MS,
    RENEW_FOR_MS,
};
use super::peer::ClientKey;

/// Renewals are rounded to multiples of this many ms, so that many deliveries are renewed together.
const STEP_MS: u64 = 1_000;
/// The batches of one client, by number.
#[derive(Debug, Default)]
struct OfClient {
    all: BTreeSet<u64>,
    unconfirmed: BTreeSet<u64>,
}

#[derive(Debug, Default)]
struct State {
    batches: HashMap<u64, Batch>,
    /// The batch of a delivery and its index there, by a hash of its handle. If two have the same hash, the earlier one
    /// is found settled when its lease is to be renewed.
    by_handle: HashMap<u64, (u64, usize)>,
    /// By a hash of the client and the id of the attempt.
    by_attempt: HashMap<u64, u64>,
    clients: HashMap<ClientKey, OfClient>,
    /// When a batch is looked at, in ms, and its number.
    due: BTreeSet<(u64, u64)>,
    /// The number of the next batch.
    next: u64,
    cost: usize,
    hasher: RandomState,
}

/// What is to be done with leases now.
#[derive(Debug, Default, PartialEq, Eq)]
struct Due {
    renew: Vec<ReceiptHandle>,
    /// To let lapse: nothing shows that their answers arrived.
    lapse: Vec<ReceiptHandle>,
}

/// The deliveries that are not settled. A batch is forgotten when its last delivery is settled.
///
/// A std mutex: it is held for a look-up, never across an await.
#[derive(Debug, Default)]
pub(crate) struct Outstanding {
    state: Mutex<State>,
    /// Notified when the next batch is to be looked at earlier than before.
    sooner: Notify,
}

/// When a lease that begins now is looked at.
fn renew_at_ms(now_ms: u64) -> u64 {
    // Rounded down: a lease must not end before it is renewed.
    (now_ms + LEASE_MS - RENEW_AHEAD_MS) / STEP_MS * STEP_MS
}

impl State {
    fn attempt_hash(&self, client: &ClientKey, attempt_id: &str) -> u64 {
        self.hasher.hash_one((client, attempt_id))
    }

    fn add(&mut self, now_ms: u64, given: &Given<'_>, handles: Box<[ReceiptHandle]>) {
        let number = self.next;
        self.next += 1;
        for (index, handle) in handles.iter().enumerate() {
            let hash = self.hasher.hash_one(handle);
            self.by_handle.insert(hash, (number, index));
        }
        let id = given.attempt_id;
        let attempt_id = (1..=ATTEMPT_ID_BYTES_MAX).contains(&id.len()).then_some(id);
        if let Some(id) = attempt_id {
            let hash = self.attempt_hash(given.client, id);
            self.by_attempt.insert(hash, number);
        }
        let (stage, at_ms, end_ms) = match given.invisible_ms {
            Some(invisible_ms) => {
                let end_ms = now_ms.saturating_add(invisible_ms);
                (Stage::Kept, end_ms, end_ms)
            }
            None => (Stage::Renewed, renew_at_ms(now_ms), now_ms + RENEW_FOR_MS),
        };
        let batch = Batch {
            client: given.client.clone(),
            connection: given.connection.clone(),
            attempt_id: attempt_id.map(Box::from),
            open: handles.len(),
            handles,
            settled: [0; WORDS],
            stage,
            confirmed: false,
            at_ms,
            end_ms,
        };
        self.cost += batch.cost();
        self.due.insert((at_ms, number));
        let of_client = self.clients.entry(given.client.clone()).or_default();
        of_client.all.insert(number);
        of_client.unconfirmed.insert(number);
        self.batches.insert(number, batch);
    }

    fn remove(&mut self, number: u64) -> Option<Batch> {
        let batch = self.batches.remove(&number)?;
        self.cost = self.cost.saturating_sub(batch.cost());
        self.due.remove(&(batch.at_ms, number));
        for handle in &batch.handles {
            let hash = self.hasher.hash_one(handle);
            if self.by_handle.get(&hash).is_some_and(|of| of.0 == number) {
                self.by_handle.remove(&hash);
            }
        }
        if let Some(id) = &batch.attempt_id {
            let hash = self.attempt_hash(&batch.client, id);
            if self.by_attempt.get(&hash) == Some(&number) {
                self.by_attempt.remove(&hash);
            }
        }
        if let Some(of_client) = self.clients.get_mut(&batch.client) {
            of_client.all.remove(&number);
            of_client.unconfirmed.remove(&number);
            if of_client.all.is_empty() {
                self.clients.remove(&batch.client);
            }
        }
        Some(batch)
    }

    /// Notes that a delivery is settled; returns the number of its batch.
    fn settle(&mut self, handle: &ReceiptHandle) -> Option<u64> {
        let hash = self.hasher.hash_one(handle);
        let (number, index) = *self.by_handle.get(&hash)?;
        let batch = self.batches.get_mut(&number)?;
        if batch.handles.get(index) != Some(handle) || !batch.settle(index) {
            return None;
        }
        Some(number)
    }

    fn remove_if_settled(&mut self, number: u64) {
        if self.batches.get(&number).is_some_and(|of| of.open == 0) {
            self.remove(number);
        }
    }

    /// Notes that an answer arrived, and with it those that its connection carried before.
    fn confirm_before(&mut self, number: u64) {
        let Some(batch) = self.batches.get(&number) else {
            return;
        };
        let (client, connection) = (batch.client.clone(), batch.connection.clone());
        self.confirm(number);
        self.confirm_of(&client, &connection, number);
    }

    /// Notes that the answers to a client on a connection arrived, those before the batch `end`.
    fn confirm_of(&mut self, client: &ClientKey, connection: &Weak<Connection>, end: u64) {
        let Some(of_client) = self.clients.get(client) else {
            return;
        };
        let earlier = of_client.unconfirmed.range(..end).copied();
        let carried = |number: &u64| {
            let batch = self.batches.get(number);
            batch.is_some_and(|batch| batch.connection.ptr_eq(connection))
        };
        let arrived: Vec<u64> = earlier.filter(carried).collect();
        for number in arrived {
            self.confirm(number);
        }
    }

    fn confirm(&mut self, number: u64) {
        let Some(batch) = self.batches.get_mut(&number) else {
            return;
        };
        batch.confirmed = true;
        if batch.stage == Stage::Lapsing {
            batch.stage = Stage::Renewed;
            // Renewed at once.
            self.due.remove(&(batch.at_ms, number));
            batch.at_ms = 0;
            self.due.insert((0, number));
        }
        if let Some(of_client) = self.clients.get_mut(&batch.client) {
            of_client.unconfirmed.remove(&number);
        }
    }

    fn move_to(&mut self, number: u64, at_ms: u64) {
        if let Some(batch) = self.batches.get_mut(&number) {
            self.due.remove(&(batch.at_ms, number));
            batch.at_ms = at_ms;
            self.due.insert((at_ms, number));
        }
    }

    /// Does what is due for a batch.
    fn look_at(
        &mut self,
        now_ms: u64,
        number: u64,
        is_connected: impl Fn(&ClientKey) -> bool,
        due: &mut Due,
    ) {
        let Some(batch) = self.batches.get_mut(&number) else {
            return;
        };
        // A connection that was cut is closed before the first renewal, since pings on it are not answered.
        let arrived = batch.confirmed || batch.connection.strong_count() > 0;
        match batch.stage {
            Stage::Renewed if !arrived => {
                batch.stage = Stage::Lapsing;
                due.lapse.extend(batch.open_handles());
                self.move_to(number, now_ms + RENEW_AHEAD_MS);
            }
            Stage::Renewed if now_ms < batch.end_ms && is_connected(&batch.client) => {
                due.renew.extend(batch.open_handles());
                self.confirm(number);
                self.move_to(number, renew_at_ms(now_ms));
            }
            // The leases of a client that is gone are left to end.
            Stage::Renewed | Stage::Lapsing | Stage::Kept => drop(self.remove(number)),
        }
    }
}

impl Outstanding {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether further deliveries are kept here.
    pub(crate) fn has_room(&self) -> bool {
        self.state().cost < OUTSTANDING_MAX
    }

    /// Keeps the deliveries of an answer until they are settled.
    pub(crate) fn add(
        &self,
        now_ms: u64,
        given: &Given<'_>,
        handles: impl Iterator<Item = ReceiptHandle>,
    ) {
        let handles: Box<[ReceiptHandle]> = handles.collect();
        if handles.is_empty() || handles.len() > BATCH_MAX {
            return;
        }
        let mut state = self.state();
        let first_ms = state.due.first().map(|(at_ms, _)| *at_ms);
        state.add(now_ms, given, handles);
        let is_sooner = state.due.first().map(|(at_ms, _)| *at_ms) != first_ms;
        drop(state);
        if is_sooner {
            self.sooner.notify_one();
        }
    }

    /// Notes that deliveries were settled, so that the answers with them arrived.
    pub(crate) fn settle(&self, handles: &[ReceiptHandle]) {
        let mut state = self.state();
        for handle in handles {
            if let Some(number) = state.settle(handle) {
                state.confirm_before(number);
                state.remove_if_settled(number);
            }
        }
        self.wake_if_late(state);
    }

    /// Lets leases be renewed at once that turn out not to be lost.
    fn wake_if_late(&self, state: MutexGuard<'_, State>) {
        let is_late = state.due.first().is_some_and(|(at_ms, _)| *at_ms == 0);
        drop(state);
        if is_late {
            self.sooner.notify_one();
        }
    }

    /// Forgets deliveries.
    fn forget(&self, handles: &[ReceiptHandle]) {
        let mut state = self.state();
        for handle in handles {
            if let Some(number) = state.settle(handle) {
                state.remove_if_settled(number);
            }
        }
    }

    /// Notes that a client asks for more: the answers it got on the same connection have arrived.
    pub(crate) fn asked_again(&self, client: &ClientKey, connection: &Weak<Connection>) {
        let mut state = self.state();
        state.confirm_of(client, connection, u64::MAX);
        self.wake_if_late(state);
    }

    /// Forgets the deliveries of an attempt that is repeated, and returns those that are not settled.
    fn take_attempt(&self, client: &ClientKey, attempt_id: &str) -> Vec<ReceiptHandle> {
        let mut state = self.state();
        let hash = state.attempt_hash(client, attempt_id);
        let Some(number) = state.by_attempt.get(&hash).copied() else {
            return Vec::new();
        };
        let is_same = state.batches.get(&number).is_some_and(|batch| {
            batch.client == *client && batch.attempt_id.as_deref() == Some(attempt_id)
        });
        let batch = if is_same { state.remove(number) } else { None };
        batch.map_or_else(Vec::new, |batch| batch.open_handles())
    }

    /// Forgets the deliveries of a client, and returns those whose leases are renewed.
    fn take_client(&self, client: &ClientKey) -> Vec<ReceiptHandle> {
        let mut state = self.state();
        let of_client = state.clients.get(client);
        let numbers: Vec<u64> =
            of_client.map_or_else(Vec::new, |of| of.all.iter().copied().collect());
        let batches = numbers
            .into_iter()
            .filter_map(|number| state.remove(number));
        batches
            .filter(|batch| batch.stage != Stage::Kept)
            .flat_map(|batch| batch.open_handles())
            .collect()
    }

    fn next_ms(&self) -> Option<u64> {
        self.state().due.first().map(|(at_ms, _)| *at_ms)
    }

    /// Returns what is to be done with leases now.
    fn take_due(&self, now_ms: u64, is_connected: impl Fn(&ClientKey) -> bool) -> Due {
        let mut due = Due::default();
        let mut state = self.state();
        let later = state.due.split_off(&(now_ms.saturating_add(1), 0));
        let now = std::mem::replace(&mut state.due, later);
        for (_, number) in now {
            state.look_at(now_ms, number, &is_connected, &mut due);
        }
        due
    }
}

impl Shared {
    /// Renews leases until the front end stops.
    pub(crate) async fn renew_leases(self: Arc<Self>) {
        loop {
            let sooner = self.outstanding.sooner.notified();
            let next = self.outstanding.next_ms();
            let due = async {
                match next {
                    Some(at_ms) => self.clock().sleep_until(at_ms).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.stopping() => return,
                () = sooner => {}
                () = due => self.renew_due().await,
            }
        }
    }

    async fn renew_due(&self) {
        let now_ms = self.clock().now_ms();
        let is_connected = |client: &ClientKey| self.sessions.is_connected(client);
        let Due { renew, lapse } = self.outstanding.take_due(now_ms, is_connected);
        let lease = Duration::from_millis(LEASE_MS);
        let left = Duration::from_millis(RENEW_AHEAD_MS);
        let (renewed, lapsing) = tokio::join!(
            self.broker.renew(&renew, lease),
            self.broker.let_lapse(&lapse, left)
        );
        // What cannot be renewed was settled by another way, or delivered again.
        let outcomes = renewed.into_iter().chain(lapsing).flatten();
        let ended = renew.iter().chain(&lapse).zip(outcomes);
        let ended = ended.filter(|(_, outcome)| outcome.is_err());
        let ended: Vec<ReceiptHandle> = ended.map(|(handle, _)| *handle).collect();
        self.outstanding.forget(&ended);
    }

    /// Leaves the deliveries of a client that has ended to other consumers; they use up no delivery. What it settles in
    /// its last moments still counts.
    pub(crate) async fn release_client(&self, client: &ClientKey) {
        let handles = self.outstanding.take_client(client);
        let wait = Duration::from_millis(LEASE_LEFT_MS);
        // A delivery that cannot be released was already settled.
        drop(self.broker.let_lapse(&handles, wait).await);
    }

    /// Returns the deliveries of an attempt that is repeated, since their answer was lost; they are delivered again and
    /// use up no delivery.
    pub(crate) async fn take_back(&self, client: &ClientKey, attempt_id: &str) {
        if attempt_id.is_empty() {
            return;
        }
        let handles = self.outstanding.take_attempt(client, attempt_id);
        // A delivery that cannot be returned was already settled.
        drop(self.broker.give_back(&handles).await);
    }

    /// Returns deliveries that did not reach their consumer to the group, until the front end stops.
    pub(crate) async fn return_unsent(
        self: Arc<Self>,
        mut unsent: tokio::sync::mpsc::UnboundedReceiver<Vec<ReceiptHandle>>,
    ) {
        loop {
            let handles = tokio::select! {
                () = self.stopping() => return,
                handles = unsent.recv() => handles,
            };
            let Some(handles) = handles else { return };
            self.outstanding.forget(&handles);
            // A delivery that cannot be returned was already settled.
            drop(self.broker.give_back(&handles).await);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use broker::Place;
    use std::net::SocketAddr;

    fn handle(sequence: u64) -> ReceiptHandle {
        ReceiptHandle {
            topic: 1,
            group: 1,
            generation: 0,
            queue: 0,
            place: Place {
                due_ms: 1,
                sequence,
                level: 0,
            },
            attempt: 1,
            returned: 0,
            retry: None,
        }
    }

    fn connection() -> Arc<Connection> {
        Arc::new(Connection::new(SocketAddr::from(([127, 0, 0, 1], 1))))
    }

    fn given<'a>(
        client: &'a ClientKey,
        connection: &'a Weak<Connection>,
        attempt_id: &'a str,
    ) -> Given<'a> {
        Given {
            client,
            connection,
            attempt_id,
            invisible_ms: None,
        }
    }

    fn sequences(handles: &[ReceiptHandle]) -> Vec<u64> {
        handles.iter().map(|handle| handle.place.sequence).collect()
    }

    #[test]
    fn leases_are_renewed_before_they_end_until_they_are_settled() {
        let outstanding = Outstanding::default();
        let (ann, ben) = (ClientKey::new("", "ann"), ClientKey::new("", "ben"));
        let connection = connection();
        let carrier = Arc::downgrade(&connection);
        let of = |client| given(client, &carrier, "");
        outstanding.add(1_999, &of(&ann), [handle(1), handle(2)].into_iter());
        outstanding.add(2_500, &of(&ben), [handle(3)].into_iter());
        let at_ms = outstanding.next_ms().unwrap();
        assert!(at_ms <= 1_999 + LEASE_MS - RENEW_AHEAD_MS && at_ms > 1_999);
        outstanding.settle(&[handle(2)]);
        let due = |now_ms| sequences(&outstanding.take_due(now_ms, |_| true).renew);
        assert_eq!(due(at_ms - 1), [0_u64; 0]);
        assert_eq!(due(at_ms), [1]);
        assert_eq!(due(at_ms + LEASE_MS), [3, 1]);
        assert_eq!(sequences(&outstanding.take_client(&ann)), [1]);
        // A client that is gone.
        let due = outstanding.take_due(at_ms + 2 * LEASE_MS, |_| false);
        assert_eq!(due, Due::default());
        assert_eq!(outstanding.next_ms(), None);
    }

    #[test]
    fn answers_that_nothing_confirms_lapse() {
        let outstanding = Outstanding::default();
        let ann = ClientKey::new("", "ann");
        let (lost, kept) = (connection(), connection());
        let (on_lost, on_kept) = (Arc::downgrade(&lost), Arc::downgrade(&kept));
        outstanding.add(0, &given(&ann, &on_lost, "a"), [handle(1)].into_iter());
        outstanding.asked_again(&ann, &on_lost);
        for sequence in 2..5 {
            let batch = given(&ann, &on_lost, "b");
            outstanding.add(
                0,
                &batch,
                [handle(sequence), handle(10 * sequence)].into_iter(),
            );
        }
        outstanding.add(0, &given(&ann, &on_kept, "c"), [handle(5)].into_iter());
        // What it settles came with the second batch, so that one arrived and so did the one before.
        outstanding.settle(&[handle(30)]);
        // A request on another connection confirms nothing of this one.
        outstanding.asked_again(&ann, &on_kept);
        drop(lost);
        let at_ms = outstanding.next_ms().unwrap();
        let due = outstanding.take_due(at_ms, |_| true);
        assert_eq!(sequences(&due.renew), [1, 2, 20, 3, 5]);
        assert_eq!(sequences(&due.lapse), [4, 40]);
        // It works on them after all.
        outstanding.settle(&[handle(40)]);
        let due = outstanding.take_due(at_ms + 1, |_| true);
        assert_eq!(sequences(&due.renew), [4]);
        assert_eq!(outstanding.state().by_attempt.len(), 3);
    }

    #[test]
    fn lapsed_answers_are_forgotten() {
        let outstanding = Outstanding::default();
        let ann = ClientKey::new("", "ann");
        outstanding.add(0, &given(&ann, &Weak::new(), "a"), [handle(1)].into_iter());
        let due = outstanding.take_due(LEASE_MS - RENEW_AHEAD_MS, |_| true);
        assert_eq!(sequences(&due.lapse), [1]);
        assert_eq!(outstanding.take_due(LEASE_MS, |_| true), Due::default());
        assert!(outstanding.take_attempt(&ann, "a").is_empty());
        assert_eq!(outstanding.state().cost, 0);
    }

    #[test]
    fn attempts_are_taken_once_while_they_are_unsettled() {
        let outstanding = Outstanding::default();
        let (ann, ben) = (ClientKey::new("", "ann"), ClientKey::new("", "ben"));
        let carrier = Weak::new();
        let kept = Given {
            invisible_ms: Some(5_000),
            ..given(&ann, &carrier, "a")
        };
        outstanding.add(0, &kept, [handle(1), handle(2)].into_iter());
        outstanding.settle(&[handle(1)]);
        assert!(outstanding.take_attempt(&ben, "a").is_empty(), "another's");
        assert_eq!(outstanding.take_attempt(&ann, "a"), [handle(2)]);
        assert!(outstanding.take_attempt(&ann, "a").is_empty(), "taken once");
        outstanding.add(0, &kept, [handle(3)].into_iter());
        outstanding.settle(&[handle(3)]);
        assert!(outstanding.take_attempt(&ann, "a").is_empty(), "settled");
        outstanding.add(0, &kept, [handle(4)].into_iter());
        assert_eq!(outstanding.take_due(5_000, |_| true), Due::default());
        assert!(outstanding.take_attempt(&ann, "a").is_empty(), "ended");
        let state = outstanding.state();
        assert!(state.by_handle.is_empty() && state.by_attempt.is_empty());
        assert!(state.batches.is_empty() && state.clients.is_empty() && state.due.is_empty());
    }

    #[test]
    fn only_so_many_deliveries_are_kept() {
        let outstanding = Outstanding::default();
        let ann = ClientKey::new("", "ann");
        let mut batches = 0;
        while outstanding.has_room() {
            let first = batches * 16;
            let handles = (first..first + 16).map(handle);
            outstanding.add(0, &given(&ann, &Weak::new(), ""), handles);
            batches += 1;
        }
        let count = usize::try_from(batches).unwrap();
        assert!(count * 16 <= OUTSTANDING_MAX && count * 32 > OUTSTANDING_MAX);
        outstanding.settle(&(0..16).map(handle).collect::<Vec<_>>());
        assert!(outstanding.has_room());
    }
}
