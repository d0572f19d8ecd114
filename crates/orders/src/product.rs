//! Provides products and their stock.

use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteRow;

use crate::error::{Error, Result, check_range, check_text};
use crate::ids::{MerchantId, ProductId};
use crate::limits::{AMOUNT_MINOR_MAX, NAME_CHARS_MAX, PAGE_ROWS_MAX, QUANTITY_MAX};
use crate::money::Currency;
use crate::platform::Platform;
use crate::store::idempotency::{Answered, Idempotency, Keyed};
use crate::store::{Tx, column, hex_key};

/// Something that is sold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Product {
    /// Its id.
    pub id: ProductId,
    /// Whose it is.
    pub merchant_id: MerchantId,
    /// What people call it.
    pub name: String,
    /// Price of one unit, in minor units of the currency.
    pub price_minor: i64,
    /// The price's currency.
    pub currency: Currency,
    /// Units that can be held now.
    pub available: i64,
    /// All units ever put in; the difference to `available` is held or sold.
    pub stocked: i64,
    /// When it was made, in ms since the Unix epoch.
    pub created_ms: i64,
}

/// A product to make.
#[derive(Clone, Debug)]
pub struct NewProduct {
    /// What people call it.
    pub name: String,
    /// Price of one unit, in minor units of the currency.
    pub price_minor: i64,
    /// The price's currency.
    pub currency: Currency,
    /// Units to begin with.
    pub stock: i64,
}

impl Platform {
    /// Makes a product.
    pub async fn create_product(
        &self,
        merchant_id: &MerchantId,
        new: NewProduct,
        idempotency: Option<Idempotency>,
    ) -> Result<Answered<Product>> {
        check_text("/name", &new.name, NAME_CHARS_MAX)?;
        check_range("/price_minor", new.price_minor, 0..=AMOUNT_MINOR_MAX)?;
        check_range("/stock", new.stock, 0..=QUANTITY_MAX)?;
        self.run_keyed(Keyed {
            merchant_id: merchant_id.clone(),
            idempotency,
            input: new,
            operation: |tx, merchant_id, new| Box::pin(create(tx, merchant_id, new)),
        })
        .await
    }

    /// The product.
    pub async fn product(&self, merchant_id: &MerchantId, id: ProductId) -> Result<Product> {
        let row = sqlx::query(
            "select id, merchant_id, name, price_minor, currency, available, stocked, created_ms
             from product where id = ? and merchant_id = ?",
        )
        .bind(id)
        .bind(merchant_id.as_str())
        .fetch_optional(self.readers())
        .await?;
        from_row(&row.ok_or_else(|| Error::not_found("product", &id))?)
    }

    /// Up to `limit` products in the order of their age, those after `after`.
    pub async fn products(
        &self,
        merchant_id: &MerchantId,
        after: Option<ProductId>,
        limit: usize,
    ) -> Result<Vec<Product>> {
        let limit = std::cmp::min(limit, PAGE_ROWS_MAX);
        let rows = sqlx::query(
            "select id, merchant_id, name, price_minor, currency, available, stocked, created_ms
             from product where merchant_id = ? and id > ? order by id limit ?",
        )
        .bind(merchant_id.as_str())
        .bind(after.map_or_else(uuid::Uuid::nil, ProductId::uuid))
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(self.readers())
        .await?;
        rows.iter().map(from_row).collect()
    }

    /// Puts units in, or takes them out if `delta` is negative; never below what is available.
    pub async fn adjust_stock(
        &self,
        merchant_id: &MerchantId,
        id: ProductId,
        delta: i64,
        idempotency: Option<Idempotency>,
    ) -> Result<Answered<Product>> {
        check_range("/delta", delta, -QUANTITY_MAX..=QUANTITY_MAX)?;
        self.run_keyed(Keyed {
            merchant_id: merchant_id.clone(),
            idempotency,
            input: (id, delta),
            operation: |tx, merchant_id, (id, delta)| {
                Box::pin(adjust(tx, merchant_id, *id, *delta))
            },
        })
        .await
    }
}

async fn create(tx: &mut Tx, merchant_id: &MerchantId, new: &NewProduct) -> Result<Product> {
    let now_ms = tx.now_ms();
    let product = Product {
        id: ProductId::new(now_ms),
        merchant_id: merchant_id.clone(),
        name: new.name.clone(),
        price_minor: new.price_minor,
        currency: new.currency,
        available: new.stock,
        stocked: new.stock,
        created_ms: now_ms,
    };
    sqlx::query(
        "insert into product (id, merchant_id, name, price_minor, currency, available, stocked, created_ms)
         values (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(product.id)
    .bind(merchant_id.as_str())
    .bind(&product.name)
    .bind(product.price_minor)
    .bind(product.currency.as_str())
    .bind(product.available)
    .bind(product.stocked)
    .bind(now_ms)
    .execute(tx.conn())
    .await?;
    Ok(product)
}

async fn adjust(
    tx: &mut Tx,
    merchant_id: &MerchantId,
    id: ProductId,
    delta: i64,
) -> Result<Product> {
    let row = sqlx::query(
        "update product set available = available + ?1, stocked = stocked + ?1
         where id = ?2 and merchant_id = ?3 and available + ?1 >= 0
         returning id, merchant_id, name, price_minor, currency, available, stocked, created_ms",
    )
    .bind(delta)
    .bind(id)
    .bind(merchant_id.as_str())
    .fetch_optional(tx.conn())
    .await?;
    if let Some(row) = row {
        return from_row(&row);
    }
    let shortage = shortage(tx, merchant_id, &[(id, -delta)]).await?;
    Err(shortage.unwrap_or_else(|| Error::not_found("product", &id)))
}

/// What a line of an order needs to know of its product.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) id: ProductId,
    pub(crate) name: String,
    pub(crate) price_minor: i64,
    pub(crate) currency: Currency,
}

/// Takes units of several products, all or none; the products must be distinct and in the order of their ids.
pub(crate) async fn take(
    tx: &mut Tx,
    merchant_id: &MerchantId,
    wanted: &[(ProductId, i64)],
) -> Result<Vec<Taken>> {
    let rows = sqlx::query(
        "update product set available = product.available - wanted.quantity
         from (select unhex(value ->> 0) as id, value ->> 1 as quantity from json_each(?)) as wanted
         where product.id = wanted.id and product.merchant_id = ?
           and product.available >= wanted.quantity
         returning id, name, price_minor, currency",
    )
    .bind(quantities_json(wanted))
    .bind(merchant_id.as_str())
    .fetch_all(tx.conn())
    .await?;
    let taken: Vec<Taken> = rows
        .iter()
        .map(|row| {
            Ok(Taken {
                id: column(row, "id")?,
                name: column(row, "name")?,
                price_minor: column(row, "price_minor")?,
                currency: currency(row)?,
            })
        })
        .collect::<Result<_>>()?;
    if taken.len() != wanted.len() {
        // The units taken above come back with the savepoint of the request.
        let missed: Vec<_> = wanted
            .iter()
            .copied()
            .filter(|(id, _)| taken.iter().all(|taken| taken.id != *id))
            .collect();
        let shortage = shortage(tx, merchant_id, &missed).await?;
        return Err(shortage.expect("a product was missing or short in this transaction"));
    }
    Ok(taken)
}

/// Gives units back; the products must be distinct and in the order of their ids.
pub(crate) async fn give_back(tx: &mut Tx, units: &[(ProductId, i64)]) -> Result<()> {
    if units.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "update product set available = product.available + back.quantity
         from (select unhex(value ->> 0) as id, value ->> 1 as quantity from json_each(?)) as back
         where product.id = back.id",
    )
    .bind(quantities_json(units))
    .execute(tx.conn())
    .await?;
    Ok(())
}

fn quantities_json(units: &[(ProductId, i64)]) -> String {
    let list: Vec<_> = units
        .iter()
        .map(|(id, quantity)| (hex_key(id.uuid()), quantity))
        .collect();
    serde_json::to_string(&list).expect("texts and numbers are always JSON")
}

/// Which product is missing or has too little.
async fn shortage(
    tx: &mut Tx,
    merchant_id: &MerchantId,
    wanted: &[(ProductId, i64)],
) -> Result<Option<Error>> {
    for &(id, quantity) in wanted {
        let available: Option<i64> =
            sqlx::query_scalar("select available from product where id = ? and merchant_id = ?")
                .bind(id)
                .bind(merchant_id.as_str())
                .fetch_optional(tx.conn())
                .await?;
        match available {
            None => return Ok(Some(Error::not_found("product", &id))),
            Some(available) if available < quantity => {
                return Ok(Some(Error::InsufficientStock {
                    id,
                    available,
                    wanted: quantity,
                }));
            }
            Some(_) => {}
        }
    }
    Ok(None)
}

/// Reads the column `currency`.
pub(crate) fn currency(row: &SqliteRow) -> Result<Currency> {
    let code: String = column(row, "currency")?;
    code.parse().map_err(|_| Error::Unreadable {
        what: "currency",
        detail: code,
    })
}

fn from_row(row: &SqliteRow) -> Result<Product> {
    Ok(Product {
        id: column(row, "id")?,
        merchant_id: MerchantId::from_stored(column(row, "merchant_id")?),
        name: column(row, "name")?,
        price_minor: column(row, "price_minor")?,
        currency: currency(row)?,
        available: column(row, "available")?,
        stocked: column(row, "stocked")?,
        created_ms: column(row, "created_ms")?,
    })
}
