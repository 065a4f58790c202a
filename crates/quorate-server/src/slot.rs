//! Answers on their way from a server thread to a task, with one wake-up for many.
//!
//! Waking a task of another thread's runtime costs a system call. A server thread completes hundreds of requests at once;
//! so it leaves the tasks' wakers in a [`Mailbox`] of their runtime and wakes only that runtime's dispatcher, which wakes the
//! tasks from inside, for almost nothing.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;

/// Where one answer will be.
#[derive(Debug)]
pub(crate) struct Slot<T> {
    /// `None`: there is no runtime here; the task is woken directly.
    mailbox: Option<Arc<Mailbox>>,
    state: Mutex<State<T>>,
}

#[derive(Debug)]
enum State<T> {
    Waiting(Option<Waker>),
    Filled(T),
    Taken,
}

impl<T> Slot<T> {
    /// An empty one for a task of the runtime that runs on this thread, or of none.
    pub(crate) fn here() -> Arc<Self> {
        Arc::new(Self { mailbox: Mailbox::here(), state: Mutex::new(State::Waiting(None)) })
    }

    /// Puts the answer in; the task wakes when `batch` is dropped.
    pub(crate) fn fill(&self, answer: T, batch: &mut WakeBatch) {
        let before = std::mem::replace(&mut *self.state.lock(), State::Filled(answer));
        if let State::Waiting(Some(waker)) = before {
            batch.add(self.mailbox.as_ref(), waker);
        }
    }
}

/// Waits for a slot's answer.
#[derive(Debug)]
pub(crate) struct Wait<T>(pub(crate) Arc<Slot<T>>);

impl<T> Future for Wait<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let mut state = self.0.state.lock();
        match std::mem::replace(&mut *state, State::Taken) {
            State::Filled(answer) => Poll::Ready(answer),
            State::Waiting(_) | State::Taken => {
                *state = State::Waiting(Some(cx.waker().clone()));
                Poll::Pending
            }
        }
    }
}

/// The wakers that wait for one runtime's dispatcher.
#[derive(Debug, Default)]
pub(crate) struct Mailbox(Mutex<Mail>);

#[derive(Debug, Default)]
struct Mail {
    wakers: Vec<Waker>,
    dispatcher: Option<Waker>,
    closed: bool,
}

thread_local! {
    static HERE: RefCell<Option<Arc<Mailbox>>> = const { RefCell::new(None) };
}

impl Mailbox {
    /// That of the runtime on this thread, if there is a runtime; its dispatcher is started when there is none.
    fn here() -> Option<Arc<Self>> {
        tokio::runtime::Handle::try_current().ok()?;
        let mailbox = HERE.with_borrow_mut(|here| {
            let open = here.as_ref().filter(|mailbox| !mailbox.0.lock().closed);
            let mailbox = open.map_or_else(Self::start, Arc::clone);
            *here = Some(Arc::clone(&mailbox));
            mailbox
        });
        Some(mailbox)
    }

    fn start() -> Arc<Self> {
        let mailbox = Arc::new(Self::default());
        let closing = Closing(Arc::clone(&mailbox));
        tokio::spawn(async move {
            let closing = closing;
            poll_fn(|cx| closing.0.dispatch(cx)).await;
        });
        mailbox
    }

    fn dispatch(&self, cx: &Context<'_>) -> Poll<()> {
        let wakers = {
            let mut mail = self.0.lock();
            mail.dispatcher = Some(cx.waker().clone());
            std::mem::take(&mut mail.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
        Poll::Pending
    }

    fn post(&self, wakers: &mut Vec<Waker>) {
        let mut mail = self.0.lock();
        if mail.closed {
            wakers.clear();
            return;
        }
        mail.wakers.append(wakers);
        let dispatcher = mail.dispatcher.take();
        drop(mail);
        if let Some(dispatcher) = dispatcher {
            dispatcher.wake();
        }
    }
}

/// Closes the mailbox when the runtime drops the dispatcher.
struct Closing(Arc<Mailbox>);

impl Drop for Closing {
    fn drop(&mut self) {
        let mut mail = self.0.0.lock();
        mail.closed = true;
        mail.wakers.clear();
    }
}

/// Wake-ups gathered by a server thread, delivered when dropped: one system call for each runtime.
#[derive(Debug, Default)]
pub(crate) struct WakeBatch(Vec<(Arc<Mailbox>, Vec<Waker>)>);

impl WakeBatch {
    fn add(&mut self, mailbox: Option<&Arc<Mailbox>>, waker: Waker) {
        let Some(mailbox) = mailbox else { return waker.wake() };
        match self.0.iter_mut().find(|(known, _)| Arc::ptr_eq(known, mailbox)) {
            Some((_, wakers)) => wakers.push(waker),
            None => self.0.push((Arc::clone(mailbox), vec![waker])),
        }
    }
}

impl Drop for WakeBatch {
    fn drop(&mut self) {
        for (mailbox, wakers) in &mut self.0 {
            mailbox.post(wakers);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_answers_from_another_thread_arrive() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let sum = runtime.block_on(async {
            let slots: Vec<_> = (0..100_u64).map(|_| Slot::here()).collect();
            let filled = slots.clone();
            let waits: Vec<_> = slots.into_iter().map(|slot| tokio::spawn(Wait(slot))).collect();
            let thread = std::thread::spawn(move || {
                let mut batch = WakeBatch::default();
                for (number, slot) in (0..).zip(&filled) {
                    slot.fill(number, &mut batch);
                }
            });
            let mut sum = 0;
            for wait in waits {
                sum += wait.await.unwrap();
            }
            thread.join().unwrap();
            sum
        });
        assert_eq!(sum, 4950);
    }

    #[test]
    fn a_second_runtime_on_the_same_thread_gets_a_mailbox_of_its_own() {
        for _ in 0..2 {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let answer = runtime.block_on(async {
                let slot = Slot::here();
                let filled = Arc::clone(&slot);
                let thread = std::thread::spawn(move || filled.fill(7, &mut WakeBatch::default()));
                let answer = Wait(slot).await;
                thread.join().unwrap();
                answer
            });
            assert_eq!(answer, 7);
        }
    }
}
