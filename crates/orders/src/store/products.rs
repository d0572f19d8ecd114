//! Stores products and their stock.

use uuid::Uuid;

use crate::error::{Error, Result};
use crate::ids::{MerchantId, ProductId};
use crate::model::product::{Product, Taken};
use crate::store::rows::{column, currency_column, hex_key, limit_of, list_json, merchant_column};
use crate::store::sql::{Readers, Row, query, query_scalar};
use crate::store::tx::Tx;

/// The columns that [`from_row`] reads.
macro_rules! columns {
    () => {
        "id, merchant_id, name, price_minor, currency, available, stocked, created_ms"
    };
}

/// Takes units of the products of a list. The `+` keeps SQLite from reading every product of the merchant: it goes through
/// the list and searches each product by its id.
const TAKE: &str = "update product set available = product.available - wanted.quantity
     from (select unhex(value ->> 0) as id, value ->> 1 as quantity from json_each(?)) as wanted
     where product.id = wanted.id and +product.merchant_id = ?
       and product.available >= wanted.quantity
     returning id, name, price_minor, currency";

/// Makes the units of a list of products available again.
const PUT_BACK: &str = "update product set available = product.available + back.quantity
     from (select unhex(value ->> 0) as id, value ->> 1 as quantity from json_each(?)) as back
     where product.id = back.id";

/// Writes a new product.
pub(crate) async fn insert(tx: &mut Tx, product: &Product) -> Result<()> {
    query(concat!(
        "insert into product (",
        columns!(),
        ") values (?, ?, ?, ?, ?, ?, ?, ?)"
    ))
    .bind(product.id)
    .bind(product.merchant_id.as_str())
    .bind(&product.name)
    .bind(product.price_minor)
    .bind(product.currency.as_str())
    .bind(product.available)
    .bind(product.stocked)
    .bind(product.created_ms)
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// The merchant's product.
pub(crate) async fn find(
    readers: &Readers,
    merchant_id: &MerchantId,
    id: ProductId,
) -> Result<Product> {
    let row = query(concat!(
        "select ",
        columns!(),
        " from product where id = ? and merchant_id = ?"
    ))
    .bind(id)
    .bind(merchant_id.as_str())
    .fetch_optional(readers)
    .await?;
    from_row(&row.ok_or_else(|| Error::not_found("product", &id))?)
}

/// Up to `limit` products, those after `after` by id.
pub(crate) async fn page(
    readers: &Readers,
    merchant_id: &MerchantId,
    after: Option<ProductId>,
    limit: usize,
) -> Result<Vec<Product>> {
    let rows = query(concat!(
        "select ",
        columns!(),
        " from product where merchant_id = ? and id > ? order by id limit ?"
    ))
    .bind(merchant_id.as_str())
    .bind(after.map_or_else(Uuid::nil, ProductId::uuid))
    .bind(limit_of(limit))
    .fetch_all(readers)
    .await?;
    rows.iter().map(from_row).collect()
}

/// Adds units to the stock, or removes them if `delta` is negative; answers the product if enough are available.
pub(crate) async fn adjust(
    tx: &mut Tx,
    merchant_id: &MerchantId,
    id: ProductId,
    delta: i64,
) -> Result<Option<Product>> {
    let row = query(concat!(
        "update product set available = available + ?1, stocked = stocked + ?1
         where id = ?2 and merchant_id = ?3 and available + ?1 >= 0
         returning ",
        columns!()
    ))
    .bind(delta)
    .bind(id)
    .bind(merchant_id.as_str())
    .fetch_optional(tx.conn())
    .await?;
    row.as_ref().map(from_row).transpose()
}

/// Takes units of those products that have enough; the products must be distinct and in the order of their ids.
pub(crate) async fn take(
    tx: &mut Tx,
    merchant_id: &MerchantId,
    wanted: &[(ProductId, i64)],
) -> Result<Vec<Taken>> {
    let rows = query(TAKE)
        .bind(quantities_json(wanted))
        .bind(merchant_id.as_str())
        .fetch_all(tx.conn())
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Taken {
                id: column(row, "id")?,
                name: column(row, "name")?,
                price_minor: column(row, "price_minor")?,
                currency: currency_column(row)?,
            })
        })
        .collect()
}

/// Makes units available again; the products must be distinct and in the order of their ids.
pub(crate) async fn put_back(tx: &mut Tx, units: &[(ProductId, i64)]) -> Result<()> {
    if units.is_empty() {
        return Ok(());
    }
    query(PUT_BACK)
        .bind(quantities_json(units))
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// Units of the product that are available, if it exists.
pub(crate) async fn available(
    tx: &mut Tx,
    merchant_id: &MerchantId,
    id: ProductId,
) -> Result<Option<i64>> {
    let available = query_scalar("select available from product where id = ? and merchant_id = ?")
        .bind(id)
        .bind(merchant_id.as_str())
        .fetch_optional(tx.conn())
        .await?;
    Ok(available)
}

fn quantities_json(units: &[(ProductId, i64)]) -> String {
    let list: Vec<_> = units
        .iter()
        .map(|(id, quantity)| (hex_key(id.uuid()), quantity))
        .collect();
    list_json(&list)
}

/// Reads a row of `columns!()`.
fn from_row(row: &Row) -> Result<Product> {
    Ok(Product {
        id: column(row, "id")?,
        merchant_id: merchant_column(row)?,
        name: column(row, "name")?,
        price_minor: column(row, "price_minor")?,
        currency: currency_column(row)?,
        available: column(row, "available")?,
        stocked: column(row, "stocked")?,
        created_ms: column(row, "created_ms")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::shop::Shop;

    #[tokio::test]
    async fn the_products_of_an_order_are_searched_by_their_ids() {
        let shop = Shop::open().await;
        for statement in [TAKE, PUT_BACK] {
            let plan = shop.plan_of(statement).await;
            let searches = plan
                .iter()
                .any(|step| step == "SEARCH product USING PRIMARY KEY (id=?)");
            assert!(searches, "{statement}\n{plan:?}");
        }
    }
}
