//! What probes beside a watch tell (K-05, K-06, K-19).

use std::time::Instant;

use super::attempt::described;
use super::look::{Finding, Sample};
use super::position::Order;
use super::side::{Ask, Reply};
use super::{Machine, Output, Told};
use crate::ingest::objects::Object;
use crate::ingest::objects::wire::{ApiStatus, Revision, decode_list, decode_one};
use crate::ingest::watch::{Failure, ListReason, SourceEvent};

impl<T: Object> Machine<T> {
    /// Sends the probe or the look that is due.
    pub(super) fn tick_probe(&mut self, now: Instant) {
        if self.side.is_some() {
            return;
        }
        let Some(open) = self.open_watch() else { return };
        if open.next_probe <= now && open.awaiting.is_none() {
            let known = self.position.highest();
            self.ask(now, Ask::Revision { known });
        } else if let Some(sample) = self.looks.due(now) {
            let sample = sample.clone();
            self.ask(now, Ask::Look(sample));
        }
    }

    /// How a probe ended.
    pub(super) fn probed(&mut self, now: Instant, known: Option<u64>, reply: Reply) {
        let subject = self.probe_subject();
        match reply {
            Reply::Body(encoding, body) => match decode_list::<T>(encoding, &body) {
                Ok(page) => self.probe_answered(now, known, &page.revision),
                Err(error) => self.probe_failed(now, Failure::Refused(format!("{subject}: {error}"))),
            },
            Reply::Refused(status) => self.probe_refused(now, &status, subject),
            Reply::Unusable(text) => self.probe_failed(now, Failure::Refused(format!("{subject}: {text}"))),
            Reply::Broken(error) => {
                self.probe_failed(now, Failure::Unreachable(format!("{subject}: {error}")));
            }
            Reply::Silent => {
                let limit = humantime::format_duration(self.limits.deadlines.headers);
                let text = format!("{subject}: the watch is silent and there is no answer within {limit}");
                self.probe_failed(now, Failure::Unreachable(text));
                self.ask(now, Ask::Ready);
            }
        }
    }

    fn probe_subject(&self) -> String {
        let at = if self.name.is_empty() { "" } else { " at " };
        format!("probe of {}s ({}?limit=1{at}{})", T::KIND, self.urls.path(), self.name)
    }

    /// The server reads its store, and this was its revision when it was asked.
    fn probe_answered(&mut self, now: Instant, known: Option<u64>, revision: &Revision) {
        self.reread = false;
        self.probe_pauses.reset();
        if revision.number().zip(known).is_some_and(|(revision, known)| revision < known) {
            self.regressed(now);
            return;
        }
        let order = self.position.compare(revision.number());
        let deadlines = self.limits.deadlines;
        let wanted = revision.number().filter(|_| order == Order::Newer && self.position.highest().is_some());
        if let Some(open) = self.open_watch() {
            open.next_probe = now + deadlines.silence;
            open.awaiting = wanted.map(|revision| (revision, now + deadlines.confirm));
        }
        if self.told != Told::Connected {
            self.tell_connected();
        } else if wanted.is_none() {
            self.tell(SourceEvent::Idle);
        }
    }

    fn probe_refused(&mut self, now: Instant, status: &ApiStatus, subject: String) {
        let text = format!("{subject}: {}", described(status));
        match status.code {
            401 => {
                self.outputs.push_back(Output::Unauthorized);
                if std::mem::replace(&mut self.reread, true) {
                    self.tell_failed(Failure::Unauthorized(text));
                    let pause = self.refusals.next(&mut self.random);
                    self.probe_at(now + pause);
                } else {
                    self.probe_at(now);
                }
            }
            403 => {
                self.tell_failed(Failure::Forbidden(text));
                let pause = self.refusals.next(&mut self.random);
                self.probe_at(now + pause);
            }
            _ => {
                self.probe_failed(now, Failure::Refused(text));
                if let Some(said) = status.retry_after {
                    self.probe_at(now + said.min(self.limits.deadlines.retry_after));
                }
            }
        }
    }

    /// The watch stays: it may be well, and it goes on where it is if the server recovers.
    fn probe_failed(&mut self, now: Instant, failure: Failure) {
        self.tell_failed(failure);
        let pause = self.probe_pauses.next(&mut self.random);
        self.probe_at(now + pause);
    }

    fn probe_at(&mut self, at: Instant) {
        if let Some(open) = self.open_watch() {
            open.next_probe = at;
        }
    }

    /// What `/readyz` says, after a probe was not answered. Only an error says more than silence did.
    pub(super) fn readiness(&mut self, _now: Instant, status: u16) {
        if status >= 500 && self.told == Told::Failed {
            let subject = self.probe_subject();
            let text = format!("{subject}: no answer, and /readyz says {status}: the server's store is away");
            self.tell(SourceEvent::Failed(Failure::Refused(text)));
        }
    }

    /// How a look at one object ended. What is no answer about the object proves nothing.
    pub(super) fn looked(&mut self, now: Instant, sample: &Sample, reply: Reply) {
        let deadlines = self.limits.deadlines;
        let finding = match reply {
            Reply::Body(encoding, body) => match decode_one::<T>(encoding, &body) {
                Ok(found) => self.looks.found(now, sample, Some(&found), &deadlines),
                Err(_) => return self.looks.put_off(now + deadlines.look),
            },
            Reply::Refused(status) if status.code == 404 && status.reason == "NotFound" => {
                self.looks.found::<T>(now, sample, None, &deadlines)
            }
            _ => return self.looks.put_off(now + deadlines.look),
        };
        match finding {
            Finding::Doubtful => {}
            Finding::Right => {
                if self.told == Told::Failed {
                    self.probe_at(now);
                }
            }
            Finding::Wrong => {
                self.counts.regressed();
                self.position.forget();
                self.relist(now, ListReason::Regressed);
            }
            Finding::Lying => {
                let text = format!(
                    "{} {}: reads by name contradict lists and watches; if etcd was restored, restart the API server",
                    T::KIND,
                    sample.key
                );
                self.tell_failed(Failure::Refused(text));
            }
        }
    }
}
