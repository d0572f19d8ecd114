//! Provides `duetime topic`, `group`, `message`, `timer`, `dlq` and `transaction`, and `order`, `refund`, `payment`,
//! `product`, `merchant` and `outbox`.
//!
//! They are clients of the JSON APIs of the broker and of the order platform. Data goes to standard output, as text by
//! default and as JSON with `--json`; everything else goes to standard error.

mod api;
mod confirm;
mod dlq;
mod endpoint;
mod format;
mod groups;
mod messages;
mod platform;
mod session;
mod time;
mod timers;
mod topics;
mod transactions;

use crate::failure::Failure;

pub(crate) use self::dlq::DlqArguments;
pub(crate) use self::groups::GroupArguments;
pub(crate) use self::messages::MessageArguments;
pub(crate) use self::platform::{
    MerchantArguments, OrderArguments, OutboxArguments, PaymentArguments, ProductArguments,
    RefundArguments,
};
pub(crate) use self::timers::TimerArguments;
pub(crate) use self::topics::TopicArguments;
pub(crate) use self::transactions::TransactionArguments;

/// One of the commands.
#[derive(Clone, Debug)]
pub(crate) enum AdminCommand {
    Topic(TopicArguments),
    Group(GroupArguments),
    Message(MessageArguments),
    Timer(TimerArguments),
    Dlq(DlqArguments),
    Transaction(TransactionArguments),
    Order(OrderArguments),
    Refund(RefundArguments),
    Payment(PaymentArguments),
    Product(ProductArguments),
    Merchant(MerchantArguments),
    Outbox(OutboxArguments),
}

/// Runs a command to its end.
pub(crate) fn run(command: AdminCommand) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Work(error.into()))?;
    runtime.block_on(async {
        match command {
            AdminCommand::Topic(arguments) => topics::run(arguments).await,
            AdminCommand::Group(arguments) => groups::run(arguments).await,
            AdminCommand::Message(arguments) => messages::run(arguments).await,
            AdminCommand::Timer(arguments) => timers::run(arguments).await,
            AdminCommand::Dlq(arguments) => dlq::run(arguments).await,
            AdminCommand::Transaction(arguments) => transactions::run(arguments).await,
            AdminCommand::Order(arguments) => platform::order(arguments).await,
            AdminCommand::Refund(arguments) => platform::refund(arguments).await,
            AdminCommand::Payment(arguments) => platform::payment(arguments).await,
            AdminCommand::Product(arguments) => platform::product(arguments).await,
            AdminCommand::Merchant(arguments) => platform::merchant(arguments).await,
            AdminCommand::Outbox(arguments) => platform::outbox(arguments).await,
        }
    })
}
