//! Deletes published events that have been kept long enough.

use crate::error::Result;
use crate::store::event;
use crate::store::outbox::SENT;
use crate::store::rows::{column, limit_of, list_json};
use crate::store::sql::{Readers, query};
use crate::store::tx::Tx;

/// A row of the outbox, as pruning sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    pub(crate) seq: i64,
    /// When it was published, in ms since the Unix epoch; none if it was not.
    pub(crate) sent_ms: Option<i64>,
}

/// The next rows after one, oldest first.
pub(crate) async fn page(readers: &Readers, after_seq: i64, limit: usize) -> Result<Vec<Kept>> {
    let rows = query("select seq, unsent, sent_ms from outbox where seq > ? order by seq limit ?")
        .bind(after_seq)
        .bind(limit_of(limit))
        .fetch_all(readers)
        .await?;
    rows.iter()
        .map(|row| {
            let (unsent, sent_ms): (i64, Option<i64>) =
                (column(row, "unsent")?, column(row, "sent_ms")?);
            Ok(Kept {
                seq: column(row, "seq")?,
                sent_ms: sent_ms.filter(|_| unsent == SENT),
            })
        })
        .collect()
}

/// Deletes rows that were published.
pub(crate) async fn delete(tx: &mut Tx, seqs: &[i64]) -> Result<()> {
    event::note_lost(tx, seqs).await?;
    query("delete from outbox where seq in (select value from json_each(?)) and unsent = ?")
        .bind(list_json(seqs))
        .bind(SENT)
        .execute(tx.conn())
        .await?;
    Ok(())
}
