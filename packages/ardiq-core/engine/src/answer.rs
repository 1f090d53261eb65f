//! The replies that a client's requests produce.

use std::sync::Arc;

use crate::error::Result;
use crate::events::JobEvent;
use crate::jobs::JobRecord;
use crate::protocol::notes::Report;
use crate::protocol::record::ResultRecord;
use crate::schedules::Agenda;
use crate::scripts::look::QueueView;

/// The answer to a request. Each request documents its variant.
#[derive(Debug)]
pub enum Answer {
    /// Job ids, in the order of the jobs.
    Ids(Vec<String>),
    /// The same for a request that failed in part: an error for each job that was not accepted.
    SomeIds(Vec<Result<String>>),
    /// A number.
    Number(i64),
    /// A result, or `None` if there is none.
    Result(Option<Arc<ResultRecord>>),
    /// The last report of a job, or `None` if there is none.
    Progress(Option<Report>),
    /// One of several answers to the same request, up to the last one.
    Event(Box<JobEvent>),
    /// Jobs, in the order of the request.
    Jobs(Vec<JobRecord>),
    /// Dead letters with their reasons.
    Dead(Vec<(JobRecord, String)>),
    /// Names.
    Names(Vec<String>),
    /// Schedules.
    Agenda(Box<Agenda>),
    /// Not an answer: there are log lines to take.
    Logs,
    /// The figures of a queue.
    Queue(Box<QueueView>),
}
