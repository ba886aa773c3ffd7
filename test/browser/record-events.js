// Runs in the page: when each event of the session was on the screen, by the machine's clock.
globalThis.shownEvents = []
document.addEventListener('DOMContentLoaded', () => {
  const onAdded = (records) => {
    const lines = records.flatMap(({ addedNodes }) => [...addedNodes])
    for (const line of lines.filter(({ dataset }) => dataset.seq !== undefined)) {
      // The frame that it is painted in.
      requestAnimationFrame(() =>
        globalThis.shownEvents.push({
          seq: Number(line.dataset.seq),
          type: line.dataset.type,
          text: line.textContent,
          createdAt: Date.parse(line.querySelector('time').dateTime),
          paintedAt: Date.now(),
        }),
      )
    }
  }
  const list = document.getElementById('events')
  if (list) new MutationObserver(onAdded).observe(list, { childList: true })
})
