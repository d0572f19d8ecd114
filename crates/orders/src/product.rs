//! Creates products, adjusts their stock, and takes it for orders.

use crate::error::{Error, Result, check_range, check_text};
use crate::ids::{MerchantId, ProductId};
use crate::limits::{AMOUNT_MINOR_MAX, NAME_CHARS_MAX, PAGE_ROWS_MAX, QUANTITY_MAX};
use crate::model::audit::{Actor, NewAudit};
use crate::model::product::{NewProduct, Product, Taken};
use crate::platform::Platform;
use crate::store::idempotency::{Answered, Idempotency, Keyed};
use crate::store::{Tx, products};

impl Platform {
    /// Creates a product.
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
        products::find(self.readers(), merchant_id, id).await
    }

    /// Up to `limit` products in the order of their age, those after `after`.
    pub async fn products(
        &self,
        merchant_id: &MerchantId,
        after: Option<ProductId>,
        limit: usize,
    ) -> Result<Vec<Product>> {
        let limit = std::cmp::min(limit, PAGE_ROWS_MAX);
        products::page(self.readers(), merchant_id, after, limit).await
    }

    /// Adds units to the stock, or removes them if `delta` is negative; never more than are available.
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
    products::insert(tx, &product).await?;
    audit(
        tx,
        &product,
        ("create", format!("{} units", product.stocked)),
    );
    Ok(product)
}

/// Records what was done to a product or its stock.
fn audit(tx: &mut Tx, product: &Product, (action, detail): (&'static str, String)) {
    tx.audit(NewAudit {
        subject: product.id.to_string(),
        merchant_id: product.merchant_id.clone(),
        entity: product.id.to_string(),
        actor: Actor::Merchant,
        action,
        from: None,
        to: None,
        detail: Some(detail),
    });
}

async fn adjust(
    tx: &mut Tx,
    merchant_id: &MerchantId,
    id: ProductId,
    delta: i64,
) -> Result<Product> {
    if let Some(product) = products::adjust(tx, merchant_id, id, delta).await? {
        audit(tx, &product, ("adjust_stock", format!("{delta:+} units")));
        return Ok(product);
    }
    let shortage = shortage(tx, merchant_id, &[(id, -delta)]).await?;
    Err(shortage.unwrap_or_else(|| Error::not_found("product", &id)))
}

/// Takes units of several products, all or none; the products must be distinct and in the order of their ids.
pub(crate) async fn take(
    tx: &mut Tx,
    merchant_id: &MerchantId,
    wanted: &[(ProductId, i64)],
) -> Result<Vec<Taken>> {
    let taken = products::take(tx, merchant_id, wanted).await?;
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

/// Which product is missing or has too little.
async fn shortage(
    tx: &mut Tx,
    merchant_id: &MerchantId,
    wanted: &[(ProductId, i64)],
) -> Result<Option<Error>> {
    for &(id, quantity) in wanted {
        match products::available(tx, merchant_id, id).await? {
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
