//! Defines products.

use serde::{Deserialize, Serialize};

use crate::ids::{MerchantId, ProductId};
use crate::money::Currency;

/// A product that is sold from stock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Product {
    /// Its id.
    pub id: ProductId,
    /// The merchant it belongs to.
    pub merchant_id: MerchantId,
    /// Its name.
    pub name: String,
    /// Price of one unit, in minor units of the currency.
    pub price_minor: i64,
    /// The price's currency.
    pub currency: Currency,
    /// Units that can be held now.
    pub available: i64,
    /// All units ever stocked; the difference to `available` is held or sold.
    pub stocked: i64,
    /// When it was created, in ms since the Unix epoch.
    pub created_ms: i64,
}

/// A product to create.
#[derive(Clone, Debug)]
pub struct NewProduct {
    /// Its name.
    pub name: String,
    /// Price of one unit, in minor units of the currency.
    pub price_minor: i64,
    /// The price's currency.
    pub currency: Currency,
    /// Units in stock at first.
    pub stock: i64,
}

/// A product whose units an order has taken, with what its line copies.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) id: ProductId,
    pub(crate) name: String,
    pub(crate) price_minor: i64,
    pub(crate) currency: Currency,
}
