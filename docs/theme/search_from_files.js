// Lets the search work where the site is opened as files, where browsers refuse workers.
// The search's program runs in a hidden frame instead, with a worker's way of passing messages.
window.IFrameWorker = class IFrameWorker extends EventTarget {
  constructor(url) {
    super();
    this.frame = document.createElement("iframe");
    this.frame.hidden = true;
    document.body.append(this.frame);
    const inner = this.frame.contentWindow;
    inner.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
    this.ready = new Promise((resolve) => {
      const script = inner.document.createElement("script");
      script.onload = resolve;
      script.src = url;
      inner.document.body.append(script);
    });
  }
  postMessage(data) {
    this.ready.then(() =>
      this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })),
    );
  }
};
if (location.protocol === "file:") {
  window.Worker = window.IFrameWorker;
}
