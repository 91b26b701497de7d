//! A model from the model hub, through the hub's client.
//!
//! The client has no time-outs of its own, and a host that does not answer would hold a
//! user for minutes. So it works on a thread which tells each byte; when it tells nothing
//! for a while, it is given up and left to end by itself. What it had of a file stays in
//! the incoming folder, and the next attempt goes on from there.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::mpsc::{self, RecvTimeoutError, Sender},
    time::Duration,
};

use hf_hub::{Cache, api::sync::ApiBuilder};

use super::{
    cache::{Received, Shelf},
    progress::Progress,
};

/// Fetches a model's files one after another.
pub(super) fn fetch(
    shelf: &Shelf<'_>,
    endpoint: Option<&str>,
    patience: Duration,
    progress: &mut dyn Progress,
) -> Result<Vec<Received>, String> {
    let model = shelf.model;
    progress.begin(
        &format!("fetching {} from the model hub", model.name),
        model.n_bytes(),
    );
    let mut received = Vec::new();
    let mut done = 0;
    for file in model.files {
        let folder = shelf.incoming().join("hub");
        let request = Request {
            endpoint: endpoint.map(str::to_owned),
            repository: model.hub_repository.to_owned(),
            file: file.name.to_owned(),
            folder,
        };
        let downloaded = download(request, patience, &mut |n| progress.at(done + n))?;
        let mut incoming = shelf.receive(file).map_err(|error| error.to_string())?;
        let whole = File::open(&downloaded)
            .map_err(|error| format!("{}: {error}", downloaded.display()))
            .and_then(|mut from| incoming.append(&mut from, |_| {}))
            .and_then(|()| incoming.finish());
        // Right or wrong, it is not needed twice; a wrong one must not be resumed.
        discard(&downloaded);
        received.push(whole?);
        done += file.n_bytes;
    }
    Ok(received)
}

/// What the client is asked for.
struct Request {
    endpoint: Option<String>,
    repository: String,
    file: String,
    folder: PathBuf,
}

enum Event {
    /// Bytes of the file so far.
    At(u64),
    Done(Result<PathBuf, String>),
}

fn download(
    request: Request,
    patience: Duration,
    on_bytes: &mut dyn FnMut(u64),
) -> Result<PathBuf, String> {
    let (events, heard) = mpsc::channel();
    let told = events.clone();
    let what = format!("{}/{}", request.repository, request.file);
    std::thread::Builder::new()
        .name("hub".into())
        .spawn(move || {
            let result = ask(&request, told);
            // Nobody hears it when the wait was given up.
            let _ = events.send(Event::Done(result));
        })
        .map_err(|error| format!("a thread for the hub: {error}"))?;
    loop {
        match heard.recv_timeout(patience) {
            Ok(Event::At(n)) => on_bytes(n),
            Ok(Event::Done(result)) => return result.map_err(|why| format!("{what}: {why}")),
            Err(RecvTimeoutError::Timeout) => {
                return Err(format!("{what}: silent for {} s", patience.as_secs_f32()));
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(format!("{what}: the client ended without an answer"));
            }
        }
    }
}

fn ask(request: &Request, events: Sender<Event>) -> Result<PathBuf, String> {
    std::fs::create_dir_all(&request.folder)
        .map_err(|error| format!("{}: {error}", request.folder.display()))?;
    let mut api = ApiBuilder::from_cache(Cache::new(request.folder.clone())).with_progress(false);
    if let Some(endpoint) = &request.endpoint {
        api = api.with_endpoint(endpoint.clone());
    }
    let api = api.build().map_err(|error| error.to_string())?;
    api.model(request.repository.clone())
        .download_with_progress(&request.file, Counted { events, n_bytes: 0 })
        .map_err(|error| error.to_string())
}

/// Passes the client's progress on.
struct Counted {
    events: Sender<Event>,
    n_bytes: u64,
}

impl hf_hub::api::Progress for Counted {
    fn init(&mut self, _size: usize, _file: &str) {
        self.n_bytes = 0;
    }

    fn update(&mut self, n_bytes: usize) {
        self.n_bytes += n_bytes as u64;
        // Nobody hears it when the wait was given up.
        let _ = self.events.send(Event::At(self.n_bytes));
    }

    fn finish(&mut self) {}
}

/// Removes a downloaded file and, where it is a link, what it links to.
fn discard(downloaded: &Path) {
    // What cannot be removed here is removed with the folder when the model is whole.
    if let Ok(target) = downloaded.canonicalize() {
        let _ = std::fs::remove_file(target);
    }
    let _ = std::fs::remove_file(downloaded);
}
