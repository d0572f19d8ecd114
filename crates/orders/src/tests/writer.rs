//! The writer: which request has its turn, when a group ends, and what an operation may not do.

use std::future::{Ready, ready};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use broker::clock::ManualClock;
use futures_util::future::{BoxFuture, FutureExt as _, join_all};

use crate::error::{Error, Result};
use crate::http::problem::{Problem, ProblemKind};
use crate::store::Tx;
use crate::store::sql::{Connection, DbErrorKind, query, query_scalar};
use crate::tests::batches::dangle;
use crate::tests::shop::Shop;

/// What ran, in its order.
type Log = Arc<Mutex<Vec<&'static str>>>;

/// Where an operation holds its thread until the other end is dropped.
pub(super) type Gate = Arc<Mutex<(Sender<()>, Receiver<()>)>>;

/// Says that the operation has begun and waits; both other ends are gone if it runs again.
pub(super) fn pass(gate: &Gate) {
    let gate = gate.lock().unwrap();
    let _ = gate.0.send(());
    let _ = gate.1.recv();
}

/// Runs the requests, all of which wait before the first of them has its turn.
async fn run_together(shop: &Shop, requests: Vec<BoxFuture<'_, Result<()>>>) -> Vec<Result<()>> {
    let (say, heard) = channel();
    let (hold, wait) = channel();
    let gate: Gate = Arc::new(Mutex::new((say, wait)));
    let holding = shop.platform().writer().run(gate, |_, gate| {
        Box::pin(async move {
            pass(gate);
            Ok(())
        })
    });
    let mut holding = std::pin::pin!(holding);
    assert!(holding.as_mut().now_or_never().is_none());
    heard.recv().unwrap();
    let release = async move { drop(hold) };
    let (results, (), done) = tokio::join!(biased; join_all(requests), release, holding);
    done.unwrap();
    results
}

fn note(log: &Log, name: &'static str) -> Ready<Result<()>> {
    log.lock().unwrap().push(name);
    ready(Ok(()))
}

#[tokio::test]
async fn steps_that_close_orders_go_ahead_but_starve_no_one() {
    let shop = Shop::open().await;
    let (platform, log) = (shop.platform(), Log::default());
    let others = (0..3).map(|_| {
        let other = platform
            .writer()
            .run(Arc::clone(&log), |_, log| Box::pin(note(log, "other")));
        other.boxed()
    });
    let ahead = (0..10).map(|_| {
        let writer = platform.writer_ahead();
        let ahead = writer.run(Arc::clone(&log), |_, log| Box::pin(note(log, "ahead")));
        ahead.boxed()
    });
    let results = run_together(&shop, others.chain(ahead).collect()).await;
    assert!(results.iter().all(Result::is_ok));
    let mut expected = vec!["ahead"; 8];
    expected.extend(["other", "ahead", "ahead", "other", "other"]);
    assert_eq!(*log.lock().unwrap(), expected);
}

/// Takes a while, by the clock that the writer reads.
async fn take(clock: &ManualClock, log: &Log, ms: u64) -> Result<()> {
    clock.advance(ms);
    note(log, "took its time").await
}

/// How often a request before one that spoils the commit runs, if it takes so long.
async fn runs_before_a_spoiled_commit(ms: u64) -> usize {
    let shop = Shop::open().await;
    let (platform, log) = (shop.platform(), Log::default());
    let input = (shop.clock.clone(), Arc::clone(&log), ms);
    let slow = platform
        .writer()
        .run(input, |_, (clock, log, ms)| Box::pin(take(clock, log, *ms)));
    let bad = platform.writer().run((), |tx, ()| Box::pin(dangle(tx)));
    let results = run_together(&shop, vec![slow.boxed(), bad.boxed()]).await;
    assert!(results[0].is_ok() && results[1].is_err(), "{results:?}");
    log.lock().unwrap().len()
}

#[tokio::test]
async fn a_group_ends_in_time() {
    // In one group both run again, one by one; the request that spoils the commit comes into the next group otherwise.
    assert_eq!(runs_before_a_spoiled_commit(3).await, 2);
    assert_eq!(runs_before_a_spoiled_commit(4).await, 1);
}

#[tokio::test]
async fn an_operation_that_waits_for_something_else_fails_alone() {
    let shop = Shop::open().await;
    let waits = shop
        .platform()
        .writer()
        .run((), |_, ()| Box::pin(std::future::pending::<Result<()>>()));
    assert!(matches!(waits.await, Err(Error::Database(_))));
    shop.platform().check_database().await.unwrap();
}

#[tokio::test]
async fn readers_that_are_closed_answer_that_they_are() {
    let shop = Shop::open().await;
    let readers = shop.platform().readers().clone();
    readers.close().await;
    let error = query("select 1").fetch_all(&readers).await.unwrap_err();
    assert_eq!(error.kind, DbErrorKind::Unavailable);
}

async fn statement(tx: &mut Tx, text: &'static str) -> Result<()> {
    query(text).fetch_all(tx.conn()).await?;
    Ok(())
}

/// A database that must not grow is like one on a full disk: SQLite answers both with the same code.
#[tokio::test]
async fn a_full_disk_refuses_what_writes_and_nothing_else() {
    let shop = Shop::open().await;
    let limit = "pragma max_page_count = 1";
    let writer = shop.platform().writer();
    let limited = writer.run(limit, |tx, limit| Box::pin(statement(tx, limit)));
    limited.await.unwrap();
    let large = "create table large as with recursive n (i) as (select 1 union all select i + 1 from n where i < 1000) \
         select i, zeroblob(4000) as b from n";
    let refused = writer.run(large, |tx, large| Box::pin(statement(tx, large)));
    let refused = refused.await.unwrap_err();
    assert!(
        matches!(&refused, Error::Database(error) if error.kind == DbErrorKind::Full),
        "{refused:?}"
    );
    let problem = Problem::from(refused);
    assert_eq!(problem.kind(), ProblemKind::InsufficientStorage);
    shop.platform().check_database().await.unwrap();
}

/// Counts the merchants, lets another one be made, and counts again.
async fn count_twice(connection: &mut Connection, gate: &Gate) -> Result<[i64; 2]> {
    let count = || query_scalar("select count(*) from merchant");
    let first = count().fetch_one(&mut *connection).await?;
    pass(gate);
    Ok([first, count().fetch_one(connection).await?])
}

#[tokio::test]
async fn a_snapshot_does_not_see_what_is_committed_meanwhile() {
    let shop = Shop::open().await;
    let (say, heard) = channel();
    let (hold, wait) = channel();
    let gate: Gate = Arc::new(Mutex::new((say, wait)));
    let readers = shop.platform().readers();
    let counts = readers.snapshot(gate, |connection, gate| {
        Box::pin(count_twice(connection, gate))
    });
    let mut counts = std::pin::pin!(counts);
    assert!(counts.as_mut().now_or_never().is_none());
    heard.recv().unwrap();
    let id = "another".parse().unwrap();
    shop.platform()
        .create_merchant(&id, "Another")
        .await
        .unwrap();
    drop(hold);
    assert_eq!(counts.await.unwrap(), [1, 1]);
    assert_eq!(shop.number("select count(*) from merchant").await, 2);
}

#[tokio::test]
async fn a_crash_keeps_what_was_committed_alone() {
    let shop = Shop::open().await;
    let writer = shop.platform().writer().clone();
    let abandoned = writer.run(writer.clone(), |tx, writer| {
        Box::pin(async move {
            query("update merchant set name = 'lost'")
                .execute(tx.conn())
                .await?;
            writer.abandon();
            Ok(())
        })
    });
    assert!(matches!(abandoned.await, Err(Error::Stopped)));
    assert_eq!(
        shop.number("select count(*) from merchant where name = 'lost'")
            .await,
        0
    );
}
