// Which step a checkpoint is of, by its file's name.

/**
 * A guess, or null. Epochs count `perEpoch` steps each, where that is known: `epoch_3` of 20 is 60.
 */
export function guess(filename, perEpoch = null) {
  const stem = filename.replace(/\.[a-z]+$/i, "");
  const step = /(?:step|iter(?:ation)?|global_?step)s?[-_ =.]?(\d+)/i.exec(stem);
  if (step) return Number(step[1]);
  const epoch = /ep(?:och)?s?[-_ =.]?(\d+)/i.exec(stem);
  if (epoch) return perEpoch === null ? null : Number(epoch[1]) * perEpoch;
  const numbers = stem.match(/\d+/g);
  return numbers ? Number(numbers.at(-1)) : null;
}
