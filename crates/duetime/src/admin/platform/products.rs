//! Provides `duetime product`.

use clap::{Args, Subcommand};
use serde_json::json;

use super::super::api::path;
use super::access::Access;
use super::show;
use crate::failure::Failure;

/// Products and their stock
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "Examples:\n\
    \x20 duetime product create Tea 500 EUR --stock 10\n\
    \x20 duetime product list\n\
    \x20 duetime product stock prd_01ka0000000000000000000001 -- -2")]
pub(crate) struct ProductArguments {
    #[command(flatten)]
    access: Access,
    #[command(subcommand)]
    command: ProductCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum ProductCommand {
    /// List products, oldest first
    List {
        /// Most products to list
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Show a product
    Show {
        /// The product
        product: String,
    },
    /// Create a product
    Create {
        /// Its name
        name: String,
        /// Its price, in minor units
        price: i64,
        /// ISO 4217 code of the currency
        currency: String,
        /// Units in stock
        #[arg(long, default_value_t = 0)]
        stock: i64,
    },
    /// Add units to the stock, or remove some
    Stock {
        /// The product
        product: String,
        /// How many; with a minus they are removed
        #[arg(allow_negative_numbers = true)]
        units: i64,
    },
}

const MEMBERS: [&str; 6] = [
    "id",
    "name",
    "price_minor",
    "available",
    "stocked",
    "created_at",
];

pub(crate) async fn run(arguments: ProductArguments) -> Result<(), Failure> {
    let access = arguments.access;
    match arguments.command {
        ProductCommand::List { limit } => {
            let session = access.open()?;
            let target = path(["v1", "products"]);
            let found = session.client.list(&target, limit).await?;
            show::list(&session, &found, ["id", "name", "price_minor", "available"])
        }
        ProductCommand::Show { product } => {
            let session = access.open()?;
            let target = path(["v1", "products", &product]);
            let found = session.client.get(&target).await?;
            show::object(&session, &found, &MEMBERS)
        }
        ProductCommand::Create {
            name,
            price,
            currency,
            stock,
        } => {
            let session = access.open_to_create()?;
            let body = json!({
                "name": name,
                "price_minor": price,
                "currency": currency,
                "stock": stock,
            });
            let made = session
                .client
                .post(&path(["v1", "products"]), &body)
                .await?;
            show::object(&session, &made, &MEMBERS)
        }
        ProductCommand::Stock { product, units } => {
            let session = access.open_to_create()?;
            let target = path(["v1", "products", &product, "stock"]);
            let body = json!({ "delta": units });
            let changed = session.client.post(&target, &body).await?;
            show::object(&session, &changed, &MEMBERS)
        }
    }
}
