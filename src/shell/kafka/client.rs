//! What all clients share: a context that notes whether brokers are reached and whether the client is still of use.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use rdkafka::{
    ClientConfig, ClientContext,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext},
    error::KafkaError,
    producer::{DeliveryResult, ProducerContext},
    types::RDKafkaErrorCode,
};

use super::{fault::KafkaFault, status::KafkaStatus};

/// A client's context.
#[derive(Debug)]
pub(super) struct StageContext {
    role: String,
    status: KafkaStatus,
    delivery_failed: Mutex<Option<String>>,
    refused: AtomicBool,
}

impl StageContext {
    pub(super) fn new(role: String, status: KafkaStatus) -> Self {
        Self { role, status, delivery_failed: Mutex::new(None), refused: AtomicBool::new(false) }
    }

    /// The client got an answer.
    pub(super) fn reached(&self) {
        if self.status.up(&self.role) {
            tracing::info!(client = %self.role, "Kafka is reached again");
        }
    }

    /// Why a record was not written, if one was not since the last look.
    pub(super) fn take_delivery_failure(&self) -> Option<String> {
        self.delivery_failed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for StageContext {
    fn drop(&mut self) {
        self.status.up(&self.role);
    }
}

impl ClientContext for StageContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // Each client says it of each attempt to connect; that no broker is reached is said once, in `error`.
        if facility == "FAIL" {
            tracing::debug!(client = %self.role, facility, "librdkafka: {message}");
            return;
        }
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
                tracing::warn!(client = %self.role, facility, "librdkafka: {message}");
            }
            RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice => {
                tracing::info!(client = %self.role, facility, "librdkafka: {message}");
            }
            RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
                tracing::debug!(client = %self.role, facility, "librdkafka: {message}");
            }
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) && self.status.down(&self.role, reason.to_owned())
        {
            tracing::warn!(client = %self.role, "no Kafka broker is reached: {reason}");
        }
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Authentication) && !self.refused.swap(true, Ordering::Relaxed) {
            tracing::warn!(client = %self.role, "Kafka refuses the sign-in: check `kafka.security`: {reason}");
        }
    }
}

impl ConsumerContext for StageContext {}

impl ProducerContext for StageContext {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _: ()) {
        match result {
            Ok(_) => self.reached(),
            Err((error, _)) => {
                let mut failed = self.delivery_failed.lock().unwrap_or_else(PoisonError::into_inner);
                failed.get_or_insert_with(|| error.to_string());
            }
        }
    }
}

/// A consumer that is let go safely, wherever its owner ends.
pub(super) struct Consuming<C: ConsumerContext + 'static>(Option<BaseConsumer<C>>);

impl Consuming<StageContext> {
    pub(super) fn new(config: &ClientConfig, role: &str, status: &KafkaStatus) -> Result<Self, KafkaFault> {
        Self::with_context(config, role, StageContext::new(role.to_owned(), status.clone()))
    }
}

impl<C: ConsumerContext + 'static> Consuming<C> {
    pub(super) fn with_context(config: &ClientConfig, role: &str, context: C) -> Result<Self, KafkaFault> {
        let made: Result<BaseConsumer<C>, _> = config.create_with_context(context);
        made.map(|consumer| Self(Some(consumer))).map_err(|error| KafkaFault::client(role, &error))
    }
}

impl<C: ConsumerContext + 'static> std::ops::Deref for Consuming<C> {
    type Target = BaseConsumer<C>;

    fn deref(&self) -> &BaseConsumer<C> {
        let Some(consumer) = &self.0 else { unreachable!("only `drop` takes the consumer out") };
        consumer
    }
}

impl<C: ConsumerContext + 'static> Drop for Consuming<C> {
    fn drop(&mut self) {
        let Some(consumer) = self.0.take() else { return };
        if consumer.client().fatal_error().is_some() {
            // librdkafka never closes a consumer that met a fatal error: its destruction would wait for ever, with a
            // core at full load. What is lost is the memory of one client in a process that is about to end.
            std::mem::forget(consumer);
        }
    }
}

/// A shared flag that ends a thread.
#[derive(Debug, Clone, Default)]
pub(super) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub(super) fn stop(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(super) fn stopped(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    pub(super) fn check(&self) -> Result<(), KafkaFault> {
        if self.stopped() { Err(KafkaFault::Stopped) } else { Ok(()) }
    }
}
